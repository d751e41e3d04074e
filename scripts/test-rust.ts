// Builds the Rust tests once and runs each test binary as the current user and as an ordinary one.
import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { runAsUsers } from "./as-users.ts";

interface CompilerArtifact {
  reason: string;
  manifest_path: string;
  executable: string | null;
  profile: { test: boolean };
}

const build = spawnSync(
  "cargo",
  ["test", "--workspace", "--locked", "--no-run", "--message-format=json"],
  { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 256 * 1024 * 1024 },
);
if (build.status !== 0) process.exit(build.status ?? 1);

const testBinaries = build.stdout
  .split("\n")
  .filter((line) => line.startsWith("{"))
  .map((line) => JSON.parse(line) as CompilerArtifact)
  .filter((message) => message.reason === "compiler-artifact" && message.profile.test);

let status = 0;
for (const { executable, manifest_path } of testBinaries) {
  if (executable === null) continue;
  console.log(`test binary ${path.basename(executable)}`);
  status = runAsUsers([executable, "--quiet"], path.dirname(manifest_path)) || status;
}
const docTests = spawnSync("cargo", ["test", "--workspace", "--locked", "--doc", "--quiet"], {
  stdio: "inherit",
});
process.exitCode = status || (docTests.status ?? 1);
