// Owns a sandbox until it is killed; see owner-death.test.ts.
import process from "node:process";
import { createSandbox, type SandboxOptions } from "../src/index.ts";

const [workspace = "", marker = "", tier] = process.argv.slice(2);
const sandbox = await createSandbox({ write: [workspace], exec: ["sh", "sleep", "setsid"] }, {
  tier,
} as SandboxOptions);
const loop = "trap '' TERM HUP; while :; do sleep 0.05; done";
await sandbox.run(["sh", "-c", `setsid setsid sh -c "${loop}" ${marker} & `]);
const child = sandbox.spawn(["sh", "-c", loop, marker], { stdio: "ignore" });
await child.started;
console.log("ready");
await child.exited;
