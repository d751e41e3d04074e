import { Buffer } from "node:buffer";

/** Decodes standard base64, refusing every spelling but the canonical one; undefined if refused. */
export function decodeBase64(text: string): Buffer | undefined {
  // Buffer skips what it does not know, so compare with the encoding of what it understood.
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : undefined;
}
