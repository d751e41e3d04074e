// Records until the disk refuses; prints what was acknowledged, what the refusals were, and what is left to verify.
import process from "node:process";
import { AuditError, ed25519Signer, openAuditLog, verifyLog } from "../../src/index.ts";

const [dir = "", origin = "", seed = "", onFailure = "deny"] = process.argv.slice(2);
const signer = ed25519Signer(origin, Buffer.from(seed, "hex"));
const log = await openAuditLog({
  dir,
  origin,
  signer,
  checkpointInterval: 20,
  onFailure: onFailure === "degrade" ? "degrade" : "deny",
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
    refusals.push(error instanceof AuditError ? error.code : String(error));
  }
}
const closing = await log.close("done").then(
  () => "closed",
  (error: unknown) => (error instanceof AuditError ? error.code : String(error)),
);
const { verdict, unsealed, size } = await verifyLog(dir, { keys: [signer.vkey] });
console.log(
  JSON.stringify({
    acknowledged,
    notDurable,
    refusals,
    closing,
    verdict,
    inLog: size + unsealed,
    lost: log.lost,
  }),
);
