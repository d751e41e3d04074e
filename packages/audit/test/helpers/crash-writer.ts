// Appends with sixteen writers until it is killed, each with `pause` milliseconds between two entries; writes every
// acknowledged `port,seq` as a line of a file. Not to stdout: there a reader that is late makes write() fail.
import { openSync, writeSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { ed25519Signer, openAuditLog } from "../../src/index.ts";

const [dir = "", origin = "", seed = "", file = "", pause = "0"] = process.argv.slice(2);
const acknowledged = openSync(file, "w");
const signer = ed25519Signer(origin, Buffer.from(seed, "hex"));
const log = await openAuditLog({ dir, origin, signer, checkpointInterval: 15 });
writeSync(1, "open\n");
let next = 1;
const writer = async (): Promise<void> => {
  for (;;) {
    const port = next++;
    const { seq } = await log.record({
      type: "net.connect",
      phase: "intent",
      decision: "allow",
      object: { host: "example.com", port, transport: "tcp" },
      actor: { pid: port, argv: ["curl", String(port)] },
    });
    writeSync(acknowledged, `${port},${seq}\n`);
    if (pause !== "0") await sleep(Number(pause));
  }
};
await Promise.all(Array.from({ length: 16 }, writer));
