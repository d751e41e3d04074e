import { readFileSync } from "node:fs";
import { ArgumentError } from "@nono/core";
import { presets } from "../../policy/presets/index.ts";
import { resolvePolicy } from "../../policy/resolve.ts";
import { policyPath } from "../../policy/variables.ts";
import type { Command, Values } from "../command.ts";
import { printableJson } from "../../printable.ts";
import { print, printJson, printText } from "../output.ts";
import { workspaceOf } from "../sandbox-flags.ts";

const actions = ["check", "list", "print", "schema"] as const;

/** `nono policy`. */
export const policy: Command = {
  name: "policy",
  summary: "check, print and list policies",
  operands: "check|print POLICY... | list | schema",
  complete: actions,
  about: `check   whether policies can be read on this machine, and are of the schema
print   them, merged, with every variable and preset resolved
list    the presets
schema  the JSON Schema of policy files

POLICY is the name of a preset, or the path of a file with a slash in it, such
as ./nono.jsonc.`,
  flags: [
    { name: "json", help: "print one line of JSON" },
    {
      name: "cwd",
      value: "PATH",
      complete: "path",
      help: "what $WORKSPACE stands for (default: the current directory)",
    },
  ],
  async run(values, [action, ...names]) {
    switch (action) {
      case "check":
        return check(values, required(names));
      case "print":
        return show(values, required(names));
      case "list":
        return list(values);
      case "schema":
        return schema(values);
      default:
        throw new ArgumentError(
          "ERR_NONO_INVALID_ARGV",
          action === undefined ? "nono policy needs an action" : `nono policy can't ${action}`,
          {
            value: action,
            remedy: `It can ${actions.join(", ")}.`,
          },
        );
    }
  },
};

function check(values: Values, names: readonly string[]): number {
  for (const name of names) resolve(values, [name]);
  if (values.has("json")) printJson({ valid: names });
  else for (const name of names) print(`${name}: valid`);
  return 0;
}

function show(values: Values, names: readonly string[]): number {
  const resolved = resolve(values, names);
  // A policy again: there the ? at a name's end would be a mark.
  const kinds = ["read", "write", "exec", "unixSockets"] as const;
  const paths = kinds.flatMap((kind) => {
    const given = resolved[kind];
    return given ? [[kind, given.map(policyPath)] as const] : [];
  });
  const shown = { ...resolved, ...Object.fromEntries(paths) };
  if (values.has("json")) printJson(shown);
  else printText(printableJson(JSON.stringify(shown, null, 2)));
  return 0;
}

function schema(values: Values): number {
  const file = new URL("../../policy/policy.schema.json", import.meta.url);
  const text = readFileSync(file, "utf8").trim();
  if (values.has("json")) printJson(JSON.parse(text));
  else printText(text);
  return 0;
}

function list(values: Values): number {
  const summaries = Object.entries(presets).map(([name, { summary }]) => ({ name, summary }));
  if (values.has("json")) printJson(summaries);
  else for (const { name, summary } of summaries) print(`${name.padEnd(13)}  ${summary}`);
  return 0;
}

function resolve(values: Values, names: readonly string[]): ReturnType<typeof resolvePolicy> {
  return resolvePolicy({ extends: names }, { workspace: workspaceOf(values) });
}

function required(names: readonly string[]): readonly string[] {
  if (names.length > 0) return names;
  throw new ArgumentError("ERR_NONO_INVALID_ARGV", "There is no policy to look at", {
    remedy: "Name presets or files, as in: nono policy check ./nono.jsonc",
  });
}
