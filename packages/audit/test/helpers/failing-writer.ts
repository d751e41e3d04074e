// Records until the disk refuses; prints what was acknowledged, what the refusals were, and what is left to verify.
// With `verify` as mode it only says what is there.
import process from "node:process";
import { AuditError, ed25519Signer, openAuditLog, verifyLog } from "../../src/index.ts";

const [dir = "", origin = "", seed = "", mode = "deny", interval = "20"] = process.argv.slice(2);
const signer = ed25519Signer(origin, Buffer.from(seed, "hex"));
const codeOf = (error: unknown): string =>
  error instanceof AuditError ? error.code : String(error);

async function write(): Promise<object> {
  const log = await openAuditLog({
    dir,
    origin,
    signer,
    checkpointInterval: Number(interval),
    onFailure: mode === "degrade" ? "degrade" : "deny",
  });
  let acknowledged = 0;
  let notDurable = 0;
  const refusals: string[] = [];
  for (let n = 0; n < 20_000 && refusals.length + notDurable < 3; n += 1) {
    try {
      const { durable } = await log.record({
        type: "tool.call",
        phase: "intent",
        decision: "allow",
        object: { name: "n", arguments: "x".repeat(1000) },
      });
      if (durable) acknowledged += 1;
      else notDurable += 1;
    } catch (error) {
      refusals.push(codeOf(error));
    }
  }
  const closing = await log.close("done").then(() => "closed", codeOf);
  return { acknowledged, notDurable, refusals, closing, lost: log.lost };
}

// A refusal while the log is opened leaves nothing to be acknowledged.
const refused = (error: unknown): object => ({
  acknowledged: 0,
  refusals: [codeOf(error)],
  closing: codeOf(error),
});
const outcome = mode === "verify" ? {} : await write().catch(refused);
const { verdict, unsealed, size } = await verifyLog(dir, { keys: [signer.vkey] });
console.log(JSON.stringify({ ...outcome, verdict, inLog: size + unsealed }));
