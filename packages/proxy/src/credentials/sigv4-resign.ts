import { Readable } from "node:stream";
import { GateError } from "../errors.ts";
import { type FlatHeaders, valuesOf, withField, withoutFields } from "../http/headers.ts";
import { gather } from "../net/byte-queue.ts";
import { type Endpoint, bracketed } from "../net/host.ts";
import type { RequestDraft } from "./broker.ts";
import {
  type AwsKeys,
  type Signature,
  algorithm,
  hmac,
  maxHeld,
  sha256,
  signingKey,
  tooLarge,
} from "./sigv4.ts";
import { ChunkSigner, isSignedInChunks } from "./sigv4-chunks.ts";
import { sourceError } from "./source.ts";

/**
 * Signs again, with the real keys, what a client signed with its phantom: same scope, same headers, same time (AWS
 * Signature Version 4). Requests may be signed in the header, in the query (presigned) or chunk by chunk.
 */
export async function resign(
  draft: RequestDraft,
  endpoint: Endpoint,
  stored: string,
): Promise<{ path: string; headers: FlatHeaders; body: Readable | undefined }> {
  const keys = parseKeys(stored);
  const authorization = valuesOf(draft.headers, "authorization")[0];
  const host = hostHeader(endpoint);
  if (authorization === undefined) {
    return { ...presign(draft, host, keys), body: draft.body };
  }
  const signature = parseAuthorization(authorization, valuesOf(draft.headers, "x-amz-date")[0]);
  let { headers, body } = draft;
  headers = withoutFields(headers, ["authorization", "x-amz-security-token"]);
  const signed = new Set(
    [...signature.signedHeaders].filter((name) => name !== "x-amz-security-token"),
  );
  if (keys.sessionToken !== undefined) {
    headers = withField(headers, "x-amz-security-token", keys.sessionToken);
    signed.add("x-amz-security-token");
  }
  let payloadHash = valuesOf(headers, "x-amz-content-sha256")[0];
  if (payloadHash === undefined) {
    draft.sendBody?.();
    const whole = body ? await gather(body, maxHeld, tooLarge) : Buffer.alloc(0);
    payloadHash = sha256(whole);
    if (body) body = Readable.from([whole]);
  }
  const full = { ...signature, signedHeaders: [...signed].sort() };
  const seed = sign(draft.method, draft.path, headers, host, payloadHash, full, keys);
  const credential = `Credential=${keys.accessKeyId}/${signature.scope}`;
  const value = `${algorithm} ${credential}, SignedHeaders=${full.signedHeaders.join(";")}, Signature=${seed}`;
  headers = withField(headers, "authorization", value);
  if (isSignedInChunks(payloadHash) && body) body = body.pipe(new ChunkSigner(full, seed, keys));
  return { path: draft.path, headers, body };
}

function presign(
  { method, path, headers }: RequestDraft,
  host: string,
  keys: AwsKeys,
): { path: string; headers: FlatHeaders } {
  const url = new URL(path, "http://placeholder");
  const query = url.searchParams;
  const scope = /^[^/]+\/(.+)$/.exec(query.get("X-Amz-Credential") ?? "")?.[1];
  const date = query.get("X-Amz-Date");
  if (scope === undefined || date === null) throw unsigned();
  query.delete("X-Amz-Signature");
  query.delete("X-Amz-Security-Token");
  query.set("X-Amz-Credential", `${keys.accessKeyId}/${scope}`);
  if (keys.sessionToken !== undefined) query.set("X-Amz-Security-Token", keys.sessionToken);
  const signedHeaders = (query.get("X-Amz-SignedHeaders") ?? "host").split(";");
  const rest = [...query].map(([name, value]) => `${encode(name)}=${encode(value)}`).join("&");
  const unsignedPath = `${path.replace(/\?.*$/s, "")}?${rest}`;
  const payloadHash = query.get("X-Amz-Content-Sha256") ?? "UNSIGNED-PAYLOAD";
  const signature = { date, scope, signedHeaders };
  const hex = sign(method, unsignedPath, headers, host, payloadHash, signature, keys);
  return { path: `${unsignedPath}&X-Amz-Signature=${hex}`, headers };
}

function sign(
  method: string,
  path: string,
  headers: FlatHeaders,
  host: string,
  payloadHash: string,
  signature: Signature,
  keys: AwsKeys,
): string {
  // Or the server could use the signature at another of the same keys' servers; AWS refuses it as well.
  if (!signature.signedHeaders.includes("host")) throw unsigned();
  const canonical = [
    method,
    canonicalPath(path, signature.scope),
    canonicalQuery(path),
    ...signature.signedHeaders.map((name) => `${name}:${canonicalValue(headers, host, name)}`),
    "",
    signature.signedHeaders.join(";"),
    payloadHash,
  ].join("\n");
  const text = [algorithm, signature.date, signature.scope, sha256(canonical)].join("\n");
  return hmac(signingKey(keys, signature.scope), text).toString("hex");
}

function canonicalValue(headers: FlatHeaders, host: string, name: string): string {
  if (name === "host") return host;
  return valuesOf(headers, name)
    .map((value) => value.trim().replace(/ +/g, " "))
    .join(",");
}

/** Every service but S3 encodes the path once more than it is sent. */
function canonicalPath(path: string, scope: string): string {
  const sent = path.replace(/\?.*$/s, "");
  if (scope.split("/")[2] === "s3") return sent;
  return sent.split("/").map(encode).join("/");
}

function canonicalQuery(path: string): string {
  const query = /\?(.*)$/s.exec(path)?.[1] ?? "";
  return query
    .split("&")
    .filter((pair) => pair !== "")
    .map((pair) => {
      const [name = "", ...value] = pair.split("=");
      return [
        encode(decodeURIComponent(name)),
        encode(decodeURIComponent(value.join("="))),
      ] as const;
    })
    .sort(([a, x], [b, y]) => (a === b ? compare(x, y) : compare(a, b)))
    .map((pair) => pair.join("="))
    .join("&");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function parseAuthorization(value: string, date: string | undefined): Signature {
  const match =
    /^AWS4-HMAC-SHA256 Credential=[^/]+\/([^,]+), ?SignedHeaders=([^,]+), ?Signature=[0-9a-f]{64}$/.exec(
      value,
    );
  if (!match || date === undefined) throw unsigned();
  return { date, scope: match[1] ?? "", signedHeaders: (match[2] ?? "").split(";") };
}

/** @throws GateError `ERR_NONO_CREDENTIAL_INVALID`, which does not quote the value */
export function parseKeys(stored: string): AwsKeys {
  let keys: Partial<AwsKeys> | undefined;
  try {
    keys = JSON.parse(stored) as Partial<AwsKeys>;
  } catch {
    // The parser's message quotes its input, which is the secret.
  }
  if (typeof keys?.accessKeyId === "string" && typeof keys.secretAccessKey === "string") {
    return keys as AwsKeys;
  }
  throw sourceError(
    "ERR_NONO_CREDENTIAL_INVALID",
    "The value is not a pair of AWS keys.",
    'Store JSON: {"accessKeyId": ..., "secretAccessKey": ..., "sessionToken"?: ...}.',
  );
}

function unsigned(): GateError {
  return new GateError(
    "ERR_NONO_PROTOCOL",
    "The request carries no AWS Signature Version 4 to renew.",
    {
      remedy: "Let the AWS tool sign with the keys in its environment.",
    },
  );
}

function hostHeader({ host, port }: Endpoint): string {
  return port === 443 || port === 80 ? bracketed(host) : `${bracketed(host)}:${port}`;
}

/** RFC 3986 unreserved characters stay. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => {
    return `%${char.charCodeAt(0).toString(16).toUpperCase()}`;
  });
}
