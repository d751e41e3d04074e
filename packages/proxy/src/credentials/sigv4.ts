import { createHash, createHmac } from "node:crypto";
import { GateError } from "../errors.ts";

/** What AWS Signature Version 4 signs with. */
export interface AwsKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** The parts of a signature that the client made with its phantom and that stay. */
export interface Signature {
  readonly date: string;
  /** `20130524/us-east-1/s3/aws4_request` */
  readonly scope: string;
  readonly signedHeaders: readonly string[];
}

export const algorithm = "AWS4-HMAC-SHA256";
/** A body without a declared hash is held to be hashed; a chunk of a streamed upload to be signed. */
export const maxHeld: number = 16 * 1024 * 1024;
export const emptyHash: string = sha256("");

export function signingKey({ secretAccessKey }: AwsKeys, scope: string): Buffer {
  const [first = "", ...rest] = scope.split("/");
  return rest.reduce(hmac, hmac(`AWS4${secretAccessKey}`, first));
}

export function sha256(data: string | Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

export function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

export function tooLarge(): GateError {
  return new GateError(
    "ERR_NONO_LIMIT",
    `A body or chunk to sign is larger than ${maxHeld} bytes.`,
    {
      remedy: "Send x-amz-content-sha256, or smaller chunks.",
    },
  );
}
