// Loads the native addon: one of a fixed list of packages, found like any other dependency.
import { createRequire } from "node:module";
import process from "node:process";
import { RollbackError } from "./errors.ts";

type Binding = typeof import("./binding.gen.ts");

const packages: Readonly<Record<string, string>> = {
  "linux-x64-gnu": "@nono/rollback-linux-x64-gnu",
  "linux-arm64-gnu": "@nono/rollback-linux-arm64-gnu",
  "linux-x64-musl": "@nono/rollback-linux-x64-musl",
  "linux-arm64-musl": "@nono/rollback-linux-arm64-musl",
  "darwin-x64": "@nono/rollback-darwin-x64",
  "darwin-arm64": "@nono/rollback-darwin-arm64",
};

let loaded: Binding | undefined;

/** The native addon, loaded on first use. */
export function binding(): Binding {
  loaded ??= load();
  return loaded;
}

function load(): Binding {
  const target = currentTarget();
  try {
    const name = packages[target];
    if (name === undefined) throw new Error(`there is no build for ${target}`);
    return createRequire(import.meta.url)(name) as Binding;
  } catch (cause) {
    throw new RollbackError(
      "ERR_NONO_UNSUPPORTED_PLATFORM",
      `the native part of @nono/rollback could not be loaded on ${target}: ${String(cause)}; there are builds for ${Object.keys(packages).join(", ")}`,
      { cause },
    );
  }
}

function currentTarget(): string {
  const { platform, arch } = process;
  if (platform !== "linux") return `${platform}-${arch}`;
  const report = process.report.getReport() as unknown as {
    header: { glibcVersionRuntime?: string };
  };
  return `linux-${arch}-${report.header.glibcVersionRuntime === undefined ? "musl" : "gnu"}`;
}
