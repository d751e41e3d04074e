import { parseArgs } from "node:util";
import { ArgumentError } from "@nono/core";
import { suggestion } from "../suggest.ts";
import { type Command, type Flag, type ForeignCommand, Values } from "./command.ts";

/** Every command has it. */
export const helpFlag: Flag = { name: "help", short: "h", help: "show this" };

/**
 * The flags and operands in `args`.
 *
 * @throws {@link ArgumentError} for a flag that the command does not have.
 */
export function parse(
  command: Pick<Command, "name" | "flags" | "runsProgram">,
  args: readonly string[],
): { values: Values; operands: readonly string[] } {
  const flags = [...command.flags, helpFlag];
  const end = command.runsProgram ? endOfFlags(args, flags) : args.length;
  const { tokens } = parseArgs({
    args: args.slice(0, end),
    allowPositionals: true,
    strict: false, // the messages are ours
    tokens: true,
    options: Object.fromEntries(
      flags.map(({ name, short, value }) => [
        name,
        { type: value === undefined ? "boolean" : "string", ...(short && { short }) },
      ]),
    ),
  });
  const given = new Map<string, string[]>();
  const operands: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") operands.push(token.value);
    if (token.kind !== "option") continue;
    const flag = flags.find(({ name }) => name === token.name);
    const value = checked(command.name, flags, flag, token.rawName, token.value);
    given.set(token.name, [...(given.get(token.name) ?? []), value]);
  }
  const rest = args.slice(end);
  return { values: new Values(given), operands: [...operands, ...withoutDashes(rest)] };
}

function checked(
  command: string,
  flags: readonly Flag[],
  flag: Flag | undefined,
  written: string,
  value: string | undefined,
): string {
  if (flag === undefined) {
    const known = flags.map(({ name }) => `--${name}`);
    const near = suggestion(written, known);
    throw refuse(`there is no flag ${written}`, written, near ?? `See nono ${command} --help.`);
  }
  if (flag.value === undefined) {
    if (value === undefined) return "";
    throw refuse(`${written} takes no value`, value, `Write ${written} alone.`);
  }
  if (value !== undefined) return value;
  throw refuse(`${written} needs a value`, written, `Write ${written} ${flag.value}.`);
}

/**
 * Whether `--json` was asked for, though the flags may not be what they should, or the command is none; what
 * follows them is the program's.
 */
export function asksForJson(
  command: Command | ForeignCommand | undefined,
  args: readonly string[],
): boolean {
  const runsProgram = command !== undefined && "runsProgram" in command;
  const end = runsProgram ? endOfFlags(args, flagsOf(command)) : args.indexOf("--");
  return args.slice(0, end < 0 ? args.length : end).includes("--json");
}

/** The flags of a command, as far as they are known here. */
export function flagsOf(command: Command | ForeignCommand | undefined): readonly Flag[] {
  return command !== undefined && "flags" in command ? command.flags : [];
}

/** Where the program begins: behind `--`, or at the first word that is neither flag nor value. */
function endOfFlags(args: readonly string[], flags: readonly Flag[]): number {
  for (let at = 0; at < args.length; at += 1) {
    const word = args[at] ?? "";
    if (word === "--" || !word.startsWith("-") || word === "-") return at;
    const flag = flags.find(({ name, short }) => word === `--${name}` || word === `-${short}`);
    if (flag?.value !== undefined) at += 1;
  }
  return args.length;
}

function withoutDashes(words: readonly string[]): readonly string[] {
  return words[0] === "--" ? words.slice(1) : words;
}

/** A flag that has no sensible value. */
export function refuse(message: string, value: string, remedy: string): ArgumentError {
  return new ArgumentError("ERR_NONO_INVALID_OPTION", message, { value, remedy });
}

/** A flag's value as a number, not negative. */
export function number(flag: string, text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isFinite(value) && value >= 0) return value;
  throw refuse(`${flag} can't be ${JSON.stringify(text)}`, text, "Give a number.");
}

/** The longest that setTimeout of Node can wait, in seconds: 24 days. */
const longest = 2 ** 31 / 1000 - 1;

/** A flag's value in seconds, as milliseconds. */
export function seconds(flag: string, text: string): number {
  const value = number(flag, text);
  if (value > 0 && value <= longest) return value * 1000;
  const remedy = `Give seconds: more than 0, and at most ${Math.floor(longest)}.`;
  throw refuse(`${flag} can't be ${JSON.stringify(text)}`, text, remedy);
}

/** A flag's value as one of several words. */
export function choice<T extends string>(
  flag: string,
  text: string | undefined,
  allowed: readonly T[],
): T | undefined {
  if (text === undefined) return undefined;
  const found = allowed.find((value) => value === text);
  if (found !== undefined) return found;
  throw refuse(`${flag} can't be ${JSON.stringify(text)}`, text, `Give ${allowed.join(" or ")}.`);
}

/** A flag's value as a name and what belongs to it, as `written` says. */
export function pair(
  flag: string,
  text: string,
  written = "NAME=VALUE",
): [name: string, value: string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw refuse(`${flag} can't be ${JSON.stringify(text)}`, text, `Give ${written}.`);
}
