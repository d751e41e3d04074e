// Which native package is asked for, and what is said where it does not load.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";
import { Workspace } from "./workspace.ts";

interface Failure {
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly value: string;
  readonly remedy: string;
}

/** What `support()` throws in a copy of the package, run as on another platform if one is given. */
function failure(workspace: Workspace, platform: string = process.platform): Failure {
  cpSync(path.join(import.meta.dirname, "../src"), workspace.at("src"), { recursive: true });
  const script = `Object.defineProperty(process, "platform", { value: "${platform}" });
    const { support } = await import("./src/index.ts");
    try { support(); } catch (error) {
      const { name, code, message, value, remedy } = error;
      console.log(JSON.stringify({ name, code, message, value, remedy }));
    }`;
  writeFileSync(workspace.at("main.mjs"), script);
  // Without NODE_PATH: pnpm's links to programs name this repository's packages there.
  const { NODE_PATH: _, ...env } = process.env;
  const options = { cwd: workspace.path, encoding: "utf8", env } as const;
  return JSON.parse(execFileSync(process.execPath, ["main.mjs"], options)) as Failure;
}

test("a missing native package is named, and why it may be missing", () => {
  using workspace = new Workspace();
  const { remedy, ...told } = failure(workspace);
  const name = `@nono/core-${told.value}`;
  expect(told).toEqual({
    name: "UnsupportedPlatformError",
    code: "ERR_NONO_UNSUPPORTED_PLATFORM",
    value: expect.stringMatching(/^linux-(x64|arm64)-(gnu|musl)$/),
    message: `The native part of @nono/core could not be loaded on ${told.value}: Error: Cannot find module '${name}'`,
  });
  expect(remedy).toContain(`with optional dependencies included: ${name} is missing`);
});

test("a native package that is there and cannot be loaded is not called missing", () => {
  using workspace = new Workspace();
  const { value } = failure(workspace);
  const home = workspace.mkdir(`node_modules/@nono/core-${value}`);
  writeFileSync(path.join(home, "package.json"), JSON.stringify({ main: "nono.node" }));
  writeFileSync(path.join(home, "nono.node"), "not a library");
  const { message, remedy } = failure(workspace);
  expect(message).toMatch(/could not be loaded on linux-\S+: Error: .*nono\.node/);
  expect(remedy).toBe(
    `Install @nono/core again: @nono/core-${value} is there, but this system cannot load it.`,
  );
});

test.each(["darwin", "win32"])("%s is said to have no build", (platform) => {
  using workspace = new Workspace();
  mkdirSync(workspace.at("node_modules"));
  expect(failure(workspace, platform)).toMatchObject({
    code: "ERR_NONO_UNSUPPORTED_PLATFORM",
    value: `${platform}-${process.arch}`,
    remedy:
      "There are builds for linux-x64-gnu, linux-arm64-gnu, linux-x64-musl, linux-arm64-musl.",
  });
});
