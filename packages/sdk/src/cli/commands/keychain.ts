import process from "node:process";
import { text } from "node:stream/consumers";
import { ArgumentError } from "@nono/core";
import type { Command } from "../command.ts";
import { listEntries, removeEntry, setEntry } from "../keychain-entries.ts";
import { print, printJson } from "../output.ts";
import { askHidden } from "../prompt.ts";

const actions = ["set", "list", "rm"] as const;

/** `nono keychain`. */
export const keychain: Command = {
  name: "keychain",
  summary: "store the credentials that commands may use and never see",
  operands: "set NAME | list | rm NAME",
  complete: actions,
  about: `The value is asked for, or read from stdin: an argument could be seen by others.
injectCredential and --credential NAME=HOST take it from there.`,
  flags: [
    { name: "service", value: "NAME", help: "the entry's service (default: nono)" },
    { name: "json", help: "print one line of JSON" },
  ],
  async run(values, [action, name]) {
    const service = values.one("service") ?? "nono";
    const say = (lines: string | readonly string[], value: unknown): void => {
      if (values.has("json")) printJson(value);
      else for (const line of [lines].flat()) print(line);
    };
    switch (action) {
      case "set": {
        const account = required(name);
        await setEntry(service, account, await readValue(account));
        say(`${account} is stored`, { stored: account, service });
        return 0;
      }
      case "list": {
        const names = await listEntries(service);
        say(names.length > 0 ? names : "no entries", names);
        return 0;
      }
      case "rm": {
        const account = required(name);
        const removed = await removeEntry(service, account);
        say(removed ? `${account} is removed` : `there is no ${account}`, {
          removed,
          account,
          service,
        });
        return removed ? 0 : 1;
      }
      default:
        throw new ArgumentError(
          "ERR_NONO_INVALID_ARGV",
          action === undefined ? "nono keychain needs an action" : `nono keychain can't ${action}`,
          {
            value: action,
            remedy: `It can ${actions.join(", ")}.`,
          },
        );
    }
  },
};

async function readValue(name: string): Promise<string> {
  const value = process.stdin.isTTY
    ? await askHidden(`Value of ${name}: `)
    : (await text(process.stdin)).replace(/\r?\n$/, "");
  if (value !== "") return value;
  throw new ArgumentError("ERR_NONO_INVALID_ARGV", "The value is empty", {
    value: name,
    remedy: `Type it, or pipe it: gh auth token | nono keychain set ${name}`,
  });
}

function required(name: string | undefined): string {
  if (name !== undefined && name !== "") return name;
  throw new ArgumentError("ERR_NONO_INVALID_ARGV", "There is no name", {
    remedy: "Name the entry, as in: nono keychain set GITHUB_TOKEN",
  });
}
