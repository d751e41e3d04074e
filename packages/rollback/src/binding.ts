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
  const name = packages[target];
  try {
    if (name === undefined) throw new Error(`there is no build for ${target}`);
    return createRequire(import.meta.url)(name) as Binding;
  } catch (cause) {
    // The first line: Node adds which module asked.
    const [reason] = String(cause).split("\n");
    throw new RollbackError(
      "ERR_NONO_UNSUPPORTED_PLATFORM",
      `the native part of @nono/rollback could not be loaded on ${target}: ${reason}; ${remedyFor(target, name, cause)}`,
      { cause },
    );
  }
}

function remedyFor(target: string, name: string | undefined, cause: unknown): string {
  const builds = Object.keys(packages).filter((one) => one.startsWith("linux-"));
  if (!builds.includes(target)) return `there are builds for ${builds.join(", ")}`;
  const isMissing = (cause as NodeJS.ErrnoException).code === "MODULE_NOT_FOUND";
  return isMissing
    ? `install @nono/rollback on this very system, with optional dependencies included: a node_modules from a system with another processor or libc (musl: Alpine; gnu: most others) does not have ${name}`
    : `install @nono/rollback again: ${name} is there, but this system cannot load it`;
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
