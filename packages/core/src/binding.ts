// Loads the native addon: one of a fixed list of packages, found like any other dependency.
// Deliberately not the loader that napi generates, which also loads whatever file an environment
// variable names.
import { createRequire } from "node:module";
import process from "node:process";
import { UnsupportedPlatformError } from "./errors.ts";

type Binding = typeof import("./binding.gen.ts");

const packages: Readonly<Record<string, string>> = {
  "linux-x64-gnu": "@nono/core-linux-x64-gnu",
  "linux-arm64-gnu": "@nono/core-linux-arm64-gnu",
  "linux-x64-musl": "@nono/core-linux-x64-musl",
  "linux-arm64-musl": "@nono/core-linux-arm64-musl",
  "darwin-x64": "@nono/core-darwin-x64",
  "darwin-arm64": "@nono/core-darwin-arm64",
};

let loaded: Binding | undefined;

/** The native addon, loaded on first use. */
export function binding(): Binding {
  loaded ??= load();
  return loaded;
}

function load(): Binding {
  const target = currentTarget();
  const supported = Object.keys(packages).join(", ");
  try {
    const name = packages[target];
    if (name === undefined) throw new Error(`there is no build of nono for ${target}`);
    return createRequire(import.meta.url)(name) as Binding;
  } catch (cause) {
    throw new UnsupportedPlatformError(
      "ERR_NONO_UNSUPPORTED_PLATFORM",
      `The native part of @nono/core could not be loaded on ${target}: ${String(cause)}`,
      {
        value: target,
        remedy: `Supported: ${supported}. On one of these, install again with optional dependencies included.`,
        cause,
      },
    );
  }
}

function currentTarget(): string {
  const { platform, arch } = process;
  if (platform !== "linux") return `${platform}-${arch}`;
  return `linux-${arch}-${hasGlibc() ? "gnu" : "musl"}`;
}

function hasGlibc(): boolean {
  // What @types/node does not know yet. Without excludeNetwork, the report looks up a host name for
  // each open connection.
  const report = process.report as unknown as {
    excludeNetwork: boolean;
    getReport(): { header: { glibcVersionRuntime?: string } };
  };
  const { excludeNetwork } = report;
  report.excludeNetwork = true;
  const { header } = report.getReport();
  report.excludeNetwork = excludeNetwork;
  return header.glibcVersionRuntime !== undefined;
}
