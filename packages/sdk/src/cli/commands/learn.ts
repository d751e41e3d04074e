import process from "node:process";
import { ArgumentError } from "@nono/core";
import { formatPolicy, type LearnablePolicy } from "../../learn/format.ts";
import { learn as learnPolicy, type LearnedRefusal } from "../../learn/learn.ts";
import { policyPath } from "../../policy/variables.ts";
import type { Command, Flag, Values } from "../command.ts";
import { printJson, printText, tell } from "../output.ts";
import { choice, number, pair, seconds } from "../parse.ts";
import { reasons } from "../refusals.ts";
import {
  degraded,
  denyPattern,
  paths,
  programPath,
  sandboxFlags,
  workspaceOf,
} from "../sandbox-flags.ts";

/** Of the flags of `nono run`, those that a learned policy begins with. */
const baseFlags = new Set(
  "policy allow-read allow-write allow-exec deny allow-net allow-unix-socket allow-localhost allow-env env tier allow-degraded no-audit cwd".split(
    " ",
  ),
);
const formats = ["typescript", "json", "flags"] as const;

const learnFlags: readonly Flag[] = [
  {
    name: "format",
    value: "FORMAT",
    complete: formats,
    help: '"typescript" (default), "json": a policy file, or "flags" of nono run',
  },
  {
    name: "permissive",
    help: "in a first run, let it read and execute everything but secrets: fewer runs",
  },
  {
    name: "network",
    help: "let it reach the hosts it asks for; what it sends there can't be taken back",
  },
  { name: "rounds", value: "N", help: "run it at most so often (default: 20)" },
  { name: "timeout", value: "SECONDS", help: "end each run after this time" },
  { name: "output", help: "show on stderr what it prints" },
  { name: "json", help: "print one line of JSON: policy, refused, complete, rounds, exitCode" },
];

/** `nono learn`. */
export const learn: Command = {
  name: "learn",
  summary: "run a command again and again to find the policy it needs, and undo what it did",
  operands: "[--] PROGRAM [ARGUMENT...]",
  complete: "program",
  about: `The policy is printed on stdout; what it does not grant although the command asked
for it (secrets, the home directory, the system, hosts), on stderr. The current
directory may be written to unless --allow-read or --allow-write say otherwise.
Exit status: 0 when the command is refused nothing under the policy, 1 when
something is.

  nono learn --format json -- make test > nono.json`,
  flags: [...learnFlags, ...sandboxFlags.filter(({ name }) => baseFlags.has(name))],
  runsProgram: true,
  async run(values, [name, ...args]) {
    if (name === undefined) {
      throw new ArgumentError("ERR_NONO_INVALID_ARGV", "There is no command to learn from", {
        remedy: "Put it last, as in: nono learn -- make test",
      });
    }
    const format = choice("--format", values.one("format"), formats) ?? "typescript";
    const tier = choice("--tier", values.one("tier"), ["namespaces", "flat"]);
    const [timeout, rounds] = [values.one("timeout"), values.one("rounds")];
    const workspace = workspaceOf(values);
    using interrupted = new Interruption();
    const learned = await learnPolicy([programPath(name), ...args], {
      workspace,
      base: baseOf(values),
      permissive: values.has("permissive"),
      network: values.has("network"),
      signal: interrupted.signal,
      onRound: ({ round, refused }) => tell(`run ${round}: ${refused} refused`),
      ...(tier && { tier }),
      ...(values.has("no-audit") && { audit: false }),
      ...(values.has("output") && { stdout: 2, stderr: 2 }),
      ...(timeout !== undefined && { timeout: seconds("--timeout", timeout) }),
      ...(rounds !== undefined && { maxRounds: number("--rounds", rounds) }),
    });
    if (values.has("json")) printJson(learned);
    else printText(formatPolicy(learned.policy, format, workspace).trimEnd());
    learned.refused.forEach(tellRefusal);
    if (learned.exitCode !== 0) {
      tell(`the command did not succeed (${learned.exitCode ?? "ended"}): it may need more`);
    }
    return learned.complete ? 0 : 1;
  },
};

/** What the flags grant from the start. */
function baseOf(values: Values): LearnablePolicy {
  const has = (...names: string[]): boolean => names.some((name) => values.has(name));
  const named = (flag: string): string[] => paths(values, flag).map(policyPath);
  return {
    ...(has("policy") && { extends: values.all("policy") }),
    ...(has("allow-read") && { read: named("allow-read") }),
    ...(has("allow-write") && { write: named("allow-write") }),
    ...(has("allow-exec") && { exec: values.all("allow-exec").map(programPath).map(policyPath) }),
    ...(has("deny") && { deny: values.all("deny").map(denyPattern) }),
    ...(has("allow-net") && { network: { allow: values.all("allow-net") } }),
    ...(has("allow-unix-socket") && { unixSockets: named("allow-unix-socket") }),
    ...(has("allow-localhost") && {
      localhostPorts: values
        .all("allow-localhost")
        .map((port) => number("--allow-localhost", port)),
    }),
    ...(has("allow-env", "env") && {
      env: {
        allow: values.all("allow-env"),
        set: Object.fromEntries(values.all("env").map((text) => pair("--env", text))),
      },
    }),
    ...(has("allow-degraded") && { allowDegraded: degraded(values) }),
  };
}

/** One line for each thing that was not granted. */
function tellRefusal({ operation, value, why }: LearnedRefusal): void {
  const what = operation === "other" ? value : `${operation} ${value}`;
  tell(`not granted: ${what}: ${reasons[why]}`);
}

/** Ctrl-C ends the command; learning ends when what it did has been undone. */
class Interruption implements Disposable {
  readonly #controller = new AbortController();
  readonly #end = (): void => this.#controller.abort();

  constructor() {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, this.#end);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.off(name, this.#end);
  }
}
