// Builds the Rust tests once and runs each test binary as the current user and as an ordinary one.
//
//   node scripts/test-rust.ts [--only CRATE... | --but CRATE...]
import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { runAsUsers } from "./as-users.ts";
import { buildTestBinaries } from "./test-binaries.ts";

const [choice, ...crates] = process.argv.slice(2);
const isChosen = (crate: string): boolean =>
  choice === undefined || crates.includes(crate) === (choice === "--only");

let status = 0;
// All are built either way: cargo would build the same crate twice for two selections.
for (const { executable, directory } of buildTestBinaries("--workspace")) {
  if (!isChosen(path.basename(directory))) continue;
  console.log(`test binary ${path.basename(executable)}`);
  status = runAsUsers([executable, "--quiet"], directory) || status;
}
if (choice !== "--only") {
  const args = ["test", "--workspace", "--locked", "--doc", "--quiet"];
  status = (spawnSync("cargo", args, { stdio: "inherit" }).status ?? 1) || status;
}
process.exitCode = status;
