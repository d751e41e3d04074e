// Entries as lines of a terminal.
import type { Buffer } from "node:buffer";
import { decodeEntry, type Entry } from "../entry.ts";
import { disclosuresOf } from "../erase.ts";
import { printable } from "../printable.ts";
import type { LogReader } from "../reader.ts";
import type { Arguments } from "./usage.ts";

/** Which entries are printed, and how. */
export interface PrintOptions {
  readonly json: boolean;
  readonly reveal: boolean;
  readonly type: string | undefined;
  readonly decision: string | undefined;
}

/** The options of `show` and `tail`. */
export function printOptions(args: Arguments): PrintOptions {
  return {
    json: args.flag("json"),
    reveal: args.flag("reveal"),
    type: args.text("type"),
    decision: args.text("decision"),
  };
}

/** The line of an entry; nothing where the options leave it out. */
export function print(
  reader: LogReader,
  bytes: Buffer,
  seq: number,
  options: PrintOptions,
): string {
  const entry = decodeEntry(bytes, seq);
  if (options.type !== undefined && entry.type !== options.type) return "";
  if (options.decision !== undefined && entry.decision !== options.decision) return "";
  const shown = options.reveal ? reveal(reader.dir, entry) : entry;
  if (options.json) return `${printable(JSON.stringify(shown))}\n`;
  const unsealed = seq < reader.size ? "" : "  (not yet under a checkpoint)";
  return `${printable(formatEntry(shown))}${unsealed}\n`;
}

/** Index, time, what, about what, by whom, and how it went. */
function formatEntry(entry: Entry): string {
  const { seq, time, decision, type, phase, object, actor, count, layer, outcome, ref } = entry;
  const words = [
    `${seq}  ${new Date(time).toISOString()}  ${decision.padEnd(5)} ${type} ${phase} `,
    ...(count === undefined ? [] : [`${count} times`]),
    ...Object.entries(object).map(([name, value]) => `${name}=${JSON.stringify(value)}`),
    ...(actor?.exe === undefined ? [] : [`by=${JSON.stringify(actor.exe)}`]),
    ...(actor?.pid === undefined ? [] : [`pid=${JSON.stringify(actor.pid)}`]),
    ...(entry.rule === undefined ? [] : [`rule=${JSON.stringify(entry.rule.id)}`]),
    ...(layer === undefined ? [] : [`layer=${JSON.stringify(layer)}`]),
    ...(outcome?.errno === undefined ? [] : [`errno=${JSON.stringify(outcome.errno)}`]),
    ...(ref === undefined ? [] : [`of=${ref}`]),
  ];
  return words.join(" ");
}

/** Puts disclosed values back for reading, in the part that they were taken from. */
function reveal(dir: string, entry: Entry): Entry {
  const values = disclosuresOf(dir, entry.seq);
  if (values.length === 0) return entry;
  const restore = (part: Readonly<Record<string, unknown>>): Record<string, unknown> => {
    const { _sd, ...rest } = part;
    const digests = new Set(Array.isArray(_sd) ? _sd : []);
    const own = values.filter(({ digest }) => digests.has(digest));
    return { ...rest, ...Object.fromEntries(own.map(({ name, value }) => [name, value])) };
  };
  return {
    ...entry,
    object: restore(entry.object),
    ...(entry.actor && { actor: restore(entry.actor) }),
  };
}
