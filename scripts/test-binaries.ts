// The Rust test binaries of a set of packages, freshly built.
import { spawnSync } from "node:child_process";
import path from "node:path";

interface CompilerArtifact {
  reason: string;
  manifest_path: string;
  executable: string | null;
  profile: { test: boolean };
}

/** A binary that runs the tests of a crate or of its `tests/` directory. */
export interface TestBinary {
  readonly executable: string;
  /** The crate's directory, where cargo would run it. */
  readonly directory: string;
}

/**
 * Builds the test binaries that `selection` selects, in cargo's words (`--workspace`, `--package nono`).
 *
 * @throws Error if they do not build; the compiler has said why on stderr
 */
export function buildTestBinaries(...selection: string[]): TestBinary[] {
  const build = spawnSync(
    "cargo",
    ["test", ...selection, "--locked", "--no-run", "--message-format=json"],
    { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 256 * 1024 * 1024 },
  );
  if (build.status !== 0) throw new Error("the Rust tests do not build");
  return executablesOf(build.stdout);
}

/** Those that cargo's messages (`--message-format=json`) tell of. */
export function executablesOf(messages: string): TestBinary[] {
  return messages
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as CompilerArtifact)
    .filter(({ reason, profile }) => reason === "compiler-artifact" && profile.test)
    .flatMap(({ executable, manifest_path }) =>
      executable === null ? [] : [{ executable, directory: path.dirname(manifest_path) }],
    );
}
