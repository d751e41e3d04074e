// From a policy as it is written to one with nothing left open.
import { readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { PolicyError } from "./errors.ts";
import { Host } from "./host.ts";
import { emptyPolicy, mergePolicies, type ResolvedPolicy } from "./merge.ts";
import { checkPolicy, parsePolicy } from "./parse.ts";
import type { Policy } from "./policy.ts";
import { presets } from "./presets/index.ts";
import { expandPaths, expandPatterns, expandPrograms, expandValues } from "./variables.ts";

/** What the variables of a policy stand for. */
export interface PolicyContext {
  /** Absolute path that `$WORKSPACE` stands for. Default: the current directory. */
  readonly workspace?: string;
}

/**
 * Reads a policy and all that it extends, and resolves its variables on this machine.
 *
 * @param policy As of {@link Sandbox.use}.
 * @param scratch Makes or names the sandbox's own temporary directory, if a policy needs it.
 * @throws {@link PolicyError}
 */
export function resolvePolicy(
  policy: string | Policy,
  { workspace = process.cwd() }: PolicyContext,
  scratch: () => string = () => "$SCRATCH",
): ResolvedPolicy {
  const host = new Host(path.resolve(workspace), scratch);
  return resolve(policy, process.cwd(), host, emptyPolicy, []);
}

/** Adds `policy` and what it extends to `base`. `chain` are the sources that led here. */
function resolve(
  policy: string | Policy,
  directory: string,
  host: Host,
  base: ResolvedPolicy,
  chain: readonly string[],
): ResolvedPolicy {
  const found = typeof policy === "string" ? find(policy, directory, host, chain) : inline(policy);
  const { source, said } = found;
  if (chain.includes(source)) {
    throw new PolicyError({ source }, `extends itself: ${[...chain, source].join(" → ")}`, {
      value: source,
      remedy: "Take one of them out of extends.",
    });
  }
  let merged = base;
  for (const parent of [said.extends ?? []].flat()) {
    merged = resolve(parent, found.directory, host, merged, [...chain, source]);
  }
  return mergePolicies(merged, expand(said, host, merged, source));
}

interface Found {
  readonly source: string;
  readonly said: Policy;
  /** Where relative paths of `extends` begin. */
  readonly directory: string;
}

function inline(policy: Policy): Found {
  const source = "policy";
  return { source, said: checkPolicy(policy, source), directory: process.cwd() };
}

function find(name: string, directory: string, host: Host, chain: readonly string[]): Found {
  if (!name.includes("/")) {
    const preset = Object.hasOwn(presets, name) ? presets[name] : undefined;
    if (preset !== undefined) return { source: name, said: preset.policy(host), directory };
    throw new PolicyError({ source: chain.at(-1) ?? "policy" }, `there is no preset ${name}`, {
      value: name,
      remedy: `Presets are ${Object.keys(presets).join(", ")}. A file needs a slash: ./${name}`,
    });
  }
  const file = path.resolve(directory, name);
  return { source: file, said: parsePolicy(read(file), file), directory: path.dirname(file) };
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const { code = "" } = cause as NodeJS.ErrnoException;
    throw new PolicyError({ source: file }, `the policy can't be read (${code})`, {
      value: file,
      remedy: "Name a file that exists, or a preset (nono policy list).",
      cause,
    });
  }
}

function expand(policy: Policy, host: Host, base: ResolvedPolicy, source: string): Policy {
  const paths = (texts: readonly string[] = []): string[] => expandPaths(texts, host, source);
  const searchPath = base.env.set["PATH"] ?? host.searchPath;
  return {
    ...policy,
    read: paths(policy.read),
    write: paths(policy.write),
    deny: expandPatterns(policy.deny ?? [], host, source),
    exec: expandPrograms(policy.exec ?? [], host, source),
    unixSockets: paths(policy.unixSockets),
    credentials: (policy.credentials ?? []).map((credential) => {
      const { from } = credential;
      if (from === undefined || !("file" in from)) return credential;
      const [file = from.file] = paths([from.file]);
      return { ...credential, from: { file } };
    }),
    env: {
      allow: policy.env?.allow ?? [],
      set: expandValues(policy.env?.set ?? {}, host, searchPath, source),
    },
  };
}
