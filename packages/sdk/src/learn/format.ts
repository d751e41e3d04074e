// A learned policy as people write policies: in TypeScript, in a file, or as flags.
import path from "node:path";
import { homeDirectory } from "../home.ts";
import type { Policy } from "../policy/policy.ts";
import { nameOf } from "../policy/variables.ts";
import { printableJson } from "../printable.ts";
import { shellWord } from "../shell-word.ts";
import { isBelow } from "../state.ts";

/** The ways to write a learned policy; see {@link formatPolicy}. */
export type PolicyFormat = "typescript" | "json" | "flags";

/** What a learned policy can say: all of it can be written in each format. */
export type LearnablePolicy = Pick<
  Policy,
  | "extends"
  | "read"
  | "write"
  | "exec"
  | "deny"
  | "unixSockets"
  | "localhostPorts"
  | "env"
  | "limits"
  | "allowDegraded"
> & {
  /** Hosts, as in `NetworkAccess.allow`. */
  readonly network?: { readonly allow: readonly string[] };
};

/**
 * Writes a policy for people to read and keep.
 *
 * @param policy As `learn` has found it.
 * @param format `"typescript"`: calls of `Sandbox`. `"json"`: a policy file, in which paths begin with
 *   `$WORKSPACE` and `$HOME` so that it holds on other machines. `"flags"`: those of `nono run`, quoted
 *   for sh.
 * @param workspace What `$WORKSPACE` stands for.
 * @example
 * ```ts
 * const { policy } = await learn(["git", "status"], { workspace: "/workspace" });
 * writeFileSync("nono.json", formatPolicy(policy, "json", "/workspace"));
 * ```
 */
export function formatPolicy(
  policy: LearnablePolicy,
  format: PolicyFormat,
  workspace: string,
): string {
  if (format === "typescript") return typescript(policy, workspace);
  if (format === "flags") return `${flags(policy).join(" \\\n")}\n`;
  return `${printableJson(JSON.stringify(withVariables(policy, workspace), null, 2))}\n`;
}

function typescript(policy: LearnablePolicy, workspace: string): string {
  const { allowDegraded = [], env, limits } = policy;
  const settings = allowDegraded.length > 0 ? `{ allowDegraded: ${literal(allowDegraded)} }` : "";
  const context = `{ workspace: ${literal(workspace)} }`;
  const calls = [
    ...[policy.extends ?? []].flat().map((name) => `.use(${literal(name)}, ${context})`),
    ...call("allowRead", policy.read?.map(nameOf)),
    ...call("allowWrite", policy.write?.map(nameOf)),
    ...call("allowExec", policy.exec?.map(nameOf)),
    ...call("deny", policy.deny),
    ...call("allowUnixSocket", policy.unixSockets?.map(nameOf)),
    ...call("allowLocalhost", policy.localhostPorts),
    ...call("allowNetwork", policy.network?.allow),
    ...call("allowEnv", env?.allow),
    ...(env?.set ? [`.setEnv(${literal(env.set)})`] : []),
    ...(limits ? [`.limit(${literal(limits)})`] : []),
  ];
  const chain = calls.map((line) => `\n  ${line}`).join("");
  return `import { Sandbox } from "@nono/sdk";\n\nawait using sandbox = new Sandbox(${settings})${chain};\n`;
}

/** One value alone, several as a list of lines. */
function call(method: string, values: readonly (string | number)[] = []): string[] {
  if (values.length === 0) return [];
  if (values.length === 1) return [`.${method}(${literal(values[0])})`];
  const lines = values.map((value) => `    ${literal(value)},\n`).join("");
  return [`.${method}([\n${lines}  ])`];
}

/** JSON is JavaScript (ECMA-262, "JSON superset"). */
function literal(value: unknown): string {
  return printableJson(JSON.stringify(value));
}

function flags(policy: LearnablePolicy): string[] {
  return [
    ...flag("policy", [policy.extends ?? []].flat()),
    ...flag("allow-read", policy.read?.map(nameOf)),
    ...flag("allow-write", policy.write?.map(nameOf)),
    ...flag("allow-exec", policy.exec?.map(nameOf)),
    ...flag("deny", policy.deny),
    ...flag("allow-unix-socket", policy.unixSockets?.map(nameOf)),
    ...flag("allow-localhost", policy.localhostPorts),
    ...flag("allow-net", policy.network?.allow),
    ...flag("allow-env", policy.env?.allow),
    ...flag("env", pairs(policy.env?.set)),
    ...flag("limit", pairs(policy.limits)),
    ...flag("allow-degraded", policy.allowDegraded),
  ];
}

function flag(name: string, values: readonly (string | number)[] = []): string[] {
  return values.map((value) => `--${name} ${shellWord(String(value))}`);
}

function pairs(values: object = {}): string[] {
  return Object.entries(values).map(([name, value]) => `${name}=${value}`);
}

function withVariables(policy: LearnablePolicy, workspace: string): Policy {
  const short = (names: readonly string[]): string[] => names.map((at) => shortened(at, workspace));
  return {
    ...policy,
    ...(policy.read && { read: short(policy.read) }),
    ...(policy.write && { write: short(policy.write) }),
    ...(policy.exec && { exec: short(policy.exec) }),
    ...(policy.deny && { deny: short(policy.deny) }),
    ...(policy.unixSockets && { unixSockets: short(policy.unixSockets) }),
  };
}

function shortened(name: string, workspace: string): string {
  if (!path.isAbsolute(name)) return name;
  const roots = { $WORKSPACE: workspace, $HOME: homeDirectory() };
  for (const [variable, root] of Object.entries(roots)) {
    if (root !== "/" && isBelow(name, root)) return variable + name.slice(root.length);
  }
  return name;
}
