// Builds the Rust tests once and runs each test binary as the current user and as an ordinary one.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import path from "node:path";
import process from "node:process";
import { runAsUsers } from "./as-users.ts";
import { buildTestBinaries } from "./test-binaries.ts";

// One more than processors, since a test that waits for a deadline leaves its own to another.
const threads = `--test-threads=${availableParallelism() + 1}`;
let status = 0;
for (const { executable, directory } of buildTestBinaries("--workspace")) {
  console.log(`test binary ${path.basename(executable)}`);
  status = runAsUsers([executable, "--quiet", threads], directory) || status;
}
const docTests = spawnSync("cargo", ["test", "--workspace", "--locked", "--doc", "--quiet"], {
  stdio: "inherit",
});
process.exitCode = status || (docTests.status ?? 1);
