// From a policy as it is written to one with nothing left open.
import path from "node:path";
import process from "node:process";
import { PolicyError } from "./errors.ts";
import { Host } from "./host.ts";
import { emptyPolicy, mergePolicies, type ResolvedPolicy } from "./merge.ts";
import { checkPolicy, parsePolicy } from "./parse.ts";
import type { Policy } from "./policy.ts";
import { presets } from "./presets/index.ts";
import { readPolicy } from "./read.ts";
import {
  expandPaths,
  expandPatterns,
  expandPrograms,
  expandSource,
  expandValues,
} from "./variables.ts";

/** What the variables of a policy stand for. */
export interface PolicyContext {
  /** Absolute path that `$WORKSPACE` stands for. Default: the current directory. */
  readonly workspace?: string;
}

/** What a policy is read for. */
export interface PolicyUse {
  /** Makes or names the sandbox's own temporary directory, if a policy needs it. */
  readonly scratch?: () => string;
  /** What it adds to. Default: nothing. */
  readonly base?: Partial<ResolvedPolicy>;
  /** Called for each file that says something of it. */
  readonly onFile?: (file: string) => void;
}

/**
 * Reads a policy and all that it extends, and resolves its variables on this machine.
 *
 * @param policy As of {@link Sandbox.use}.
 * @throws {@link PolicyError}
 */
export function resolvePolicy(
  policy: string | Policy,
  { workspace = process.cwd() }: PolicyContext,
  { scratch = () => "$SCRATCH", base = {}, onFile = () => {} }: PolicyUse = {},
): ResolvedPolicy {
  const host = new Host(path.resolve(workspace), scratch);
  const reading = { host, onFile, count: 0 };
  return resolve(policy, process.cwd(), reading, { ...emptyPolicy, ...base }, []);
}

/** Policies in one: those that extend others twice can be as many as one likes. */
const most = 256;

interface Reading {
  readonly host: Host;
  readonly onFile: (file: string) => void;
  /** Policies so far. */
  count: number;
}

/** Adds `policy` and what it extends to `base`. `chain` are the sources that led here. */
function resolve(
  policy: string | Policy,
  directory: string,
  reading: Reading,
  base: ResolvedPolicy,
  chain: readonly string[],
): ResolvedPolicy {
  const { host } = reading;
  reading.count += 1;
  if (reading.count > most) {
    throw new PolicyError({ source: chain[0] ?? "policy" }, `extends more than ${most} policies`, {
      value: chain.at(-1),
      remedy: "Extend each of them once.",
    });
  }
  const found =
    typeof policy === "string" ? find(policy, directory, reading, chain) : inline(policy);
  const { source, said } = found;
  if (chain.includes(source)) {
    throw new PolicyError({ source }, `extends itself: ${[...chain, source].join(" → ")}`, {
      value: source,
      remedy: "Take one of them out of extends.",
    });
  }
  let merged = base;
  for (const parent of [said.extends ?? []].flat()) {
    merged = resolve(parent, found.directory, reading, merged, [...chain, source]);
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

function find(
  name: string,
  directory: string,
  { host, onFile }: Reading,
  chain: readonly string[],
): Found {
  if (!name.includes("/")) {
    const preset = Object.hasOwn(presets, name) ? presets[name] : undefined;
    if (preset !== undefined) return { source: name, said: preset.policy(host), directory };
    throw new PolicyError({ source: chain.at(-1) ?? "policy" }, `there is no preset ${name}`, {
      value: name,
      remedy: `Presets are ${Object.keys(presets).join(", ")}. A file needs a slash: ./${name}`,
    });
  }
  const file = path.resolve(directory, name);
  onFile(file);
  return { source: file, said: parsePolicy(readPolicy(file), file), directory: path.dirname(file) };
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
      if (from === undefined) return credential;
      return { ...credential, from: expandSource(from, host, source) };
    }),
    env: {
      allow: policy.env?.allow ?? [],
      set: expandValues(policy.env?.set ?? {}, host, searchPath, source),
    },
  };
}
