// $WORKSPACE, $HOME and $SCRATCH in policies; a `?` for what a machine may lack.
import path from "node:path";
import type { Host } from "./host.ts";
import { PolicyError } from "./errors.ts";
import type { PolicySource } from "./policy.ts";
import { patternBelow } from "./pattern.ts";

/** Absolute paths; what is marked `?` and missing is left out. */
export function expandPaths(texts: readonly string[], host: Host, source: string): string[] {
  return texts.flatMap((text) => {
    const { name, isOptional } = optional(text);
    refuseVague(text, name, source);
    const expanded = expand(name, host, source);
    // $SCRATCH stays as it is where no sandbox is made: nono policy print.
    const absolute = expanded.startsWith("$") ? expanded : path.resolve(host.workspace, expanded);
    return isOptional && !host.exists(absolute) ? [] : [absolute];
  });
}

/** Absolute paths and patterns; one that begins with a double asterisk holds everywhere. */
export function expandPatterns(texts: readonly string[], host: Host, source: string): string[] {
  return texts.map((text) => {
    refuseVague(text, text, source);
    if (/^(\/|\*\*\/)/.test(text)) return text;
    const { name, rest } = variableIn(text);
    const directory = name === undefined ? host.workspace : variable(name, host, source);
    return patternBelow(directory, rest);
  });
}

/** Absolute paths, and names without a slash as they are. */
export function expandPrograms(texts: readonly string[], host: Host, source: string): string[] {
  return texts.flatMap((text) => {
    const { name, isOptional } = optional(text);
    if (name.includes("/") || name.startsWith("$")) return expandPaths([text], host, source);
    refuseVague(text, name, source);
    return isOptional && host.program(name) === undefined ? [] : [name];
  });
}

/**
 * Where a credential comes from, its file or program found. A program is run outside of the sandbox, so it is none
 * that only the workspace has.
 */
export function expandSource(from: PolicySource, host: Host, source: string): PolicySource {
  if ("file" in from) {
    const [file = from.file] = expandPaths([from.file], host, source);
    return { file };
  }
  if (!("command" in from)) return from;
  const [name = "", ...args] = from.command;
  const isPath = name.includes("/") || name.startsWith("$");
  const program = isPath ? expandPaths([name], host, source)[0] : host.ownProgram(name);
  if (program !== undefined) return { command: [program, ...args] };
  throw new PolicyError({ source }, `there is no program ${name} outside of the workspace`, {
    value: name,
    remedy: "Install it, or give the path of the program that says the credential.",
  });
}

/** Values of environment variables. `$PATH` is the search path so far. */
export function expandValues(
  values: Readonly<Record<string, string>>,
  host: Host,
  searchPath: string,
  source: string,
): Record<string, string> {
  const replace = (text: string): string =>
    text.replaceAll(/\$(\$|[A-Za-z_]\w*)/g, (_, name: string) =>
      name === "$" ? "$" : name === "PATH" ? searchPath : variable(name, host, source),
    );
  return Object.fromEntries(Object.entries(values).map(([name, text]) => [name, replace(text)]));
}

/** How a policy says `name`: what ends in a `?` itself would lose it. */
export function policyPath(name: string): string {
  return name.endsWith("?") ? `${name}?` : name;
}

/** The name that a path of a policy is about. */
export function nameOf(text: string): string {
  return optional(text).name;
}

function optional(text: string): { name: string; isOptional: boolean } {
  return text.endsWith("?")
    ? { name: text.slice(0, -1), isOptional: true }
    : { name: text, isOptional: false };
}

/**
 * What is nothing would be the workspace, and `~` a name in it: a denial of `~/.ssh` would deny nothing.
 *
 * @throws {@link PolicyError}
 */
function refuseVague(text: string, name: string, source: string): void {
  if (name !== "" && !/^~(\/|$)/.test(name)) return;
  const problem = name === "" ? "names nothing" : "does not mean the home directory";
  throw new PolicyError({ source }, `${JSON.stringify(text)} ${problem}`, {
    value: text,
    remedy:
      name === ""
        ? "Write $WORKSPACE for all of the workspace."
        : "Write $HOME for it, or ./~ for what is called so.",
  });
}

/** The variable that a path begins with, and the rest of it. */
function variableIn(text: string): { name: string | undefined; rest: string } {
  const [, name, rest = ""] = /^\$([A-Za-z_]\w*)(\/.*)?$/s.exec(text) ?? [];
  return { name, rest: name === undefined ? text : rest };
}

function expand(text: string, host: Host, source: string): string {
  const { name, rest } = variableIn(text);
  return name === undefined ? text : variable(name, host, source) + rest;
}

function variable(name: string, host: Host, source: string): string {
  switch (name) {
    case "WORKSPACE":
      return host.workspace;
    case "HOME":
      return host.home;
    case "SCRATCH":
      return host.scratch;
    default:
      throw new PolicyError({ source }, `there is no variable $${name}`, {
        value: `$${name}`,
        remedy: "Variables are $WORKSPACE, $HOME, $SCRATCH and, in env.set, $PATH; $$ is a dollar.",
      });
  }
}
