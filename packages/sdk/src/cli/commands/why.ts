import { ArgumentError, type Explanation, type Question } from "@nono/core";
import type { HostQuestion } from "../../explain-host.ts";
import { Never } from "../../learn/never.ts";
import { wouldPass } from "../../violation.ts";
import type { Command, Flag, Values } from "../command.ts";
import { print, printJson } from "../output.ts";
import { number } from "../parse.ts";
import { flagFor, reasons } from "../refusals.ts";
import { paths, programPath, sandboxFlags, sandboxFrom, workspaceOf } from "../sandbox-flags.ts";

const questionFlags: readonly Flag[] = [
  { name: "read", value: "PATH", complete: "path", help: "whether it could read a path" },
  { name: "write", value: "PATH", complete: "path", help: "whether it could change a path" },
  {
    name: "exec",
    value: "PROGRAM",
    complete: "program",
    help: "whether it could execute a program",
  },
  { name: "host", value: "HOST[:PORT]", help: "whether it could reach a host (default port: 443)" },
  {
    name: "socket",
    value: "PATH",
    complete: "path",
    help: "whether it could connect to a unix socket",
  },
  { name: "variable", value: "NAME", help: "whether it would see an environment variable" },
];

/** `nono why`. */
export const why: Command = {
  name: "why",
  summary: "say whether a command could do something, and by which rule",
  about: `Asks one question of the sandbox that the other flags describe. Nothing is run. Exit
status: 0 when it could, 1 when not.

  nono why --policy git --read ~/.ssh/id_ed25519`,
  flags: [...questionFlags, ...sandboxFlags, { name: "json", help: "print one line of JSON" }],
  async run(values) {
    await using sandbox = sandboxFrom(values, undefined, { audit: false });
    const answer = await sandbox.explain(questionOf(values));
    if (values.has("json")) printJson(answer);
    else show(answer, new Never(workspaceOf(values)));
    return answer.allowed ? 0 : 1;
  },
};

function questionOf(values: Values): Question | HostQuestion {
  const asked = questionFlags.filter(({ name }) => values.has(name));
  const [flag] = asked;
  if (flag === undefined || asked.length > 1) {
    const names = questionFlags.map(({ name }) => `--${name}`).join(", ");
    throw new ArgumentError("ERR_NONO_INVALID_ARGV", "nono why answers one question", {
      value: asked.map(({ name }) => name),
      remedy: `Give one of ${names}.`,
    });
  }
  const value = values.one(flag.name) ?? "";
  const isAboutPath = flag.complete === "path";
  const [file = ""] = isAboutPath ? paths(values, flag.name).slice(-1) : [];
  switch (flag.name) {
    case "exec":
      return { exec: programPath(value) };
    case "host":
      return hostOf(value);
    case "socket":
      return { unixSocket: file };
    case "variable":
      return { env: value };
    default:
      return { path: file, access: flag.name === "write" ? "write" : "read" };
  }
}

function hostOf(text: string): HostQuestion {
  const [, host = text, port] = /^(.*[^:]):(\d+)$/.exec(text) ?? [];
  return { host, ...(port !== undefined && { port: number("--host", port) }) };
}

function show({ allowed, rule, path: canonical, suggestion }: Explanation, never: Never): void {
  print(
    allowed ? { color: "green", text: "allowed" } : { color: "red", text: "refused" },
    `: ${rule}`,
  );
  if (canonical !== undefined) print(`path: ${String(canonical)}`);
  if (suggestion === undefined) return;
  print(wouldPass(suggestion));
  print(`on the command line: ${flagFor(suggestion)}`);
  const why = never.granting(suggestion);
  if (why !== undefined) print({ color: "yellow", text: `better not allowed: ${reasons[why]}` });
}
