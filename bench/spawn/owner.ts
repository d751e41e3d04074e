// Owns a sandbox with daemons and a fork bomb inside until it is killed; see death.ts.
import process from "node:process";
import { createSandbox, type SandboxOptions } from "@nono/core";

const [marker = "", tier] = process.argv.slice(2);
const exec = ["sh", "sleep", "setsid"];
const sandbox = await createSandbox({ exec }, { tier } as SandboxOptions);
const loop = "trap '' TERM HUP; while :; do sleep 0.05; done";
// Twice forked, in sessions of its own; and one that makes new processes all the time.
await sandbox.run(["sh", "-c", `setsid setsid sh -c "${loop}" ${marker} & `]);
const bomb = sandbox.spawn(["sh", "-c", "while :; do sleep 0.01 & done", marker], {
  stdio: "ignore",
});
await bomb.started;
console.log("ready");
await bomb.exited;
