// The flags that say what a command may do: the same for all commands that run one or ask about one.
import { existsSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { ArgumentError, type GuaranteeName, guaranteeNames } from "@nono/core";
import { patternBelow } from "../policy/pattern.ts";
import { Sandbox, type SandboxSettings } from "../sandbox.ts";
import type { Flag, Values } from "./command.ts";
import { suggestion } from "../suggest.ts";
import { choice, number, pair, refuse } from "./parse.ts";

/** What they are. */
export const sandboxFlags: readonly Flag[] = [
  {
    name: "policy",
    short: "p",
    value: "POLICY",
    many: true,
    complete: "preset",
    help: "add a preset (nono policy list) or a policy file (with a slash: ./nono.jsonc)",
  },
  {
    name: "allow-read",
    value: "PATH",
    many: true,
    complete: "path",
    help: "let it read a file, or a directory with all below it",
  },
  {
    name: "allow-write",
    value: "PATH",
    many: true,
    complete: "path",
    help: "let it read and change a file or all below a directory",
  },
  {
    name: "allow-exec",
    value: "PROGRAM",
    many: true,
    complete: "program",
    help: "let it execute a program: a path, a directory, or a name looked up in PATH (the command itself always may be)",
  },
  {
    name: "deny",
    value: "PATH",
    many: true,
    complete: "path",
    help: "refuse a path inside what is allowed, or a pattern such as '**/.env'",
  },
  {
    name: "allow-net",
    value: "HOST",
    many: true,
    help: "let it reach a host: name, name:port, *.suffix, address or range",
  },
  {
    name: "allow-unix-socket",
    value: "PATH",
    many: true,
    complete: "path",
    help: "let it connect to a unix socket",
  },
  {
    name: "allow-localhost",
    value: "PORT",
    many: true,
    help: "let it reach a service on this machine's loopback",
  },
  {
    name: "publish",
    value: "PORT",
    many: true,
    help: "let this machine reach a server that it runs, on 127.0.0.1",
  },
  {
    name: "network",
    value: "MODE",
    complete: ["blocked", "open"],
    help: '"blocked" (default) or "open": every network',
  },
  {
    name: "credential",
    value: "NAME=HOST",
    many: true,
    help: "let it use the keychain's entry NAME (nono keychain set NAME) at a host, without ever having it",
  },
  {
    name: "allow-env",
    value: "NAME",
    many: true,
    help: "pass a variable on; NAME* passes all that begin so",
  },
  { name: "env", value: "NAME=VALUE", many: true, help: "set a variable" },
  {
    name: "limit",
    value: "NAME=NUMBER",
    many: true,
    help: "memory, fileSize (bytes), processes, openFiles, cpus, cpuSeconds, wallSeconds",
  },
  {
    name: "no-base-profile",
    help: "don't add the system's libraries and the like to what may be read",
  },
  {
    name: "no-protect",
    help: "let it write names that your own tools obey: git hooks, .vscode, .envrc",
  },
  { name: "no-private-tmp", help: "let it see the machine's /tmp instead of one of its own" },
  {
    name: "tier",
    value: "TIER",
    complete: ["namespaces", "flat"],
    help: '"namespaces" or "flat" (default: the strongest that works)',
  },
  {
    name: "allow-degraded",
    value: "NAME",
    many: true,
    help: "accept that a guarantee can't be given on this machine",
  },
  {
    name: "rollback",
    help: "keep the state of the writable directories before the run, for nono diff, nono rollback and nono commit",
  },
  { name: "no-audit", help: "put nothing on record" },
  {
    name: "cwd",
    value: "PATH",
    complete: "path",
    help: "its working directory, and $WORKSPACE of policies (default: the current one)",
  },
];

/** Its working directory. */
export function workspaceOf(values: Values): string {
  const named = values.one("cwd");
  if (named !== undefined && path.isAbsolute(named)) return named;
  const current = process.cwd();
  if (current.includes("\u{fffd}") && !existsSync(current)) {
    const remedy = "Rename it. The API (@nono/sdk) takes paths as bytes.";
    throw new ArgumentError(
      "ERR_NONO_INVALID_CWD",
      "The name of the current directory is not UTF-8, and Node can't tell it",
      { value: current, remedy },
    );
  }
  return path.resolve(current, named ?? ".");
}

/** The paths that a flag names, from the current directory on. */
export function paths(values: Values, flag: string): string[] {
  return values.all(flag).map((text) => path.resolve(named(`--${flag}`, text)));
}

/** What `--deny` says, which is from the current directory on, as paths are. */
export function denyPattern(text: string): string {
  named("--deny", text);
  if (text.startsWith("**/")) return text;
  return path.isAbsolute(text) ? path.resolve(text) : patternBelow(process.cwd(), text);
}

/** The guarantees whose absence is accepted. */
export function degraded(values: Values): GuaranteeName[] {
  return values.all("allow-degraded").map((given) => {
    const found = guaranteeNames.find((name) => name === given);
    if (found !== undefined) return found;
    throw refuse(
      `--allow-degraded: there is no guarantee ${given}`,
      given,
      suggestion(given, guaranteeNames) ?? `Guarantees are ${guaranteeNames.join(", ")}.`,
    );
  });
}

/** The sandbox that the flags describe, in which `program` may be executed. */
export function sandboxFrom(
  values: Values,
  program: string | undefined,
  settings: SandboxSettings = {},
): Sandbox {
  const tier = choice("--tier", values.one("tier"), ["namespaces", "flat"]);
  const workspace = workspaceOf(values);
  const sandbox = new Sandbox({
    ...settings,
    ...(tier && { tier }),
    allowDegraded: degraded(values),
    ...(values.has("no-base-profile") && { baseProfile: false }),
    ...(values.has("no-protect") && { protect: false }),
    ...(values.has("no-private-tmp") && { privateTmp: false }),
    ...(values.has("no-audit") && { audit: false }),
  });
  // Together, as nono policy print shows them: of single values the later one counts.
  const policies = values.all("policy");
  if (policies.length > 0) sandbox.use({ extends: policies }, { workspace });
  sandbox
    .allowRead(paths(values, "allow-read"))
    .allowWrite(paths(values, "allow-write"))
    .allowExec(values.all("allow-exec").map(programPath))
    .allowExec(program === undefined ? [] : program)
    .deny(values.all("deny").map(denyPattern))
    .allowLocalhost(values.all("allow-localhost").map((port) => number("--allow-localhost", port)))
    .publish(values.all("publish").map((port) => number("--publish", port)))
    .allowUnixSocket(paths(values, "allow-unix-socket"))
    .allowEnv(values.all("allow-env"))
    .setEnv(Object.fromEntries(values.all("env").map((text) => pair("--env", text))))
    .limit(Object.fromEntries(values.all("limit").map(limit)));
  // What a command leaves is looked at, and brought back, by later commands.
  if (values.has("rollback") || sandbox.isUndoable) sandbox.enableRollback({ keep: true });
  for (const text of values.all("credential")) {
    const [name, proxyTo] = pair("--credential", text, "NAME=HOST");
    sandbox.injectCredential({ name, proxyTo, tokenFromKeychain: true });
  }
  return withNetwork(sandbox, values);
}

/** A program as the user names it: a bare name is looked up in PATH, anything else is a path. */
export function programPath(name: string): string {
  return name.includes("/") ? path.resolve(named("a program", name)) : name;
}

/**
 * What names a path. Nothing, as of a variable that is not set, would be the current directory, and `~`, which
 * shells leave alone in `--deny=~/.ssh`, a name in it.
 */
function named(flag: string, text: string): string {
  if (text === "")
    throw refuse(`${flag} names nothing`, text, "Name a path: . for this directory.");
  if (!/^~(\/|$)/.test(text)) return text;
  const remedy = 'Write "$HOME" for it, or ./~ for what is called so.';
  throw refuse(`${flag}: ${text} does not mean the home directory`, text, remedy);
}

function withNetwork(sandbox: Sandbox, values: Values): Sandbox {
  const hosts = values.all("allow-net");
  const mode = choice("--network", values.one("network"), ["blocked", "open"]);
  if (mode !== undefined && hosts.length > 0) {
    const written = hosts.join(" ");
    throw refuse(`--network ${mode} leaves no room for --allow-net`, written, "Give one of them.");
  }
  if (mode === "open") return sandbox.openNetwork();
  if (mode === "blocked") return sandbox.blockNetwork();
  return hosts.length > 0 ? sandbox.allowNetwork(hosts) : sandbox;
}

function limit(text: string): [name: string, value: number] {
  const [name, value] = pair("--limit", text, "NAME=NUMBER");
  return [name, number("--limit", value)];
}
