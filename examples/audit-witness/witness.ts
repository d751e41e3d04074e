// A witness by the C2SP tlog-witness protocol, as someone else would run one on another machine: it cosigns a head
// after checking that it extends the last one it saw. For real use take litewitness or omniwitness, which remember
// that on disk.
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import {
  AuditError,
  cosignedText,
  formatSignatureLine,
  formatVkey,
  noteVerifier,
  parseCheckpoint,
  parseNote,
  signatureType,
  verifyConsistency,
  verifySignatures,
  type TreeHead,
} from "@nono/audit";

/** Starts a witness that knows the log with this verifier key. */
export async function startWitness(
  name: string,
  logVkey: string,
): Promise<{ server: Server; url: string; vkey: string }> {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  const vkey = formatVkey(name, signatureType.cosignatureEd25519, raw);
  const { keyId } = noteVerifier(vkey);
  let seen: TreeHead | undefined;

  const addCheckpoint = (body: string): { status: number; text: string } => {
    const blank = body.indexOf("\n\n");
    const [first = "", ...hashes] = body.slice(0, blank).split("\n");
    const old = Number(first.replace(/^old /, ""));
    const { text, signatures } = parseNote(body.slice(blank + 2));
    if (verifySignatures({ text, signatures }, [noteVerifier(logVkey)]).length === 0)
      return { status: 403, text: "not signed by the log\n" };
    const head = parseCheckpoint(text);
    if (old !== (seen?.size ?? 0)) return { status: 409, text: `${seen?.size ?? 0}\n` };
    if (seen) {
      const proof = hashes.map((hash) => Buffer.from(hash, "base64"));
      const roots = { oldSize: seen.size, oldRoot: seen.root, size: head.size, root: head.root };
      verifyConsistency({ ...roots, proof });
    }
    seen = head;
    const time = Math.floor(Date.now() / 1000);
    const signature = Buffer.alloc(8 + 64);
    signature.writeBigUInt64BE(BigInt(time));
    sign(null, cosignedText(text, time), privateKey).copy(signature, 8);
    return { status: 200, text: formatSignatureLine({ name, keyId, signature }) };
  };

  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      try {
        const { status, text } = addCheckpoint(Buffer.concat(chunks).toString());
        response.writeHead(status).end(text);
      } catch (error) {
        response.writeHead(error instanceof AuditError ? 422 : 400).end("refused\n");
      }
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  return { server, url: `http://127.0.0.1:${port}`, vkey };
}
