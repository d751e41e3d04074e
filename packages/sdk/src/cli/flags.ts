import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { ArgumentError, type Limits } from "@nono/core";

/** The flags of `nono run`, checked. */
export interface RunFlags {
  readonly help: boolean;
  readonly command: readonly string[];
  readonly read: readonly string[];
  readonly write: readonly string[];
  readonly exec: readonly string[];
  readonly allowEnv: readonly string[];
  readonly setEnv: Readonly<Record<string, string>>;
  readonly network: "blocked" | "open";
  /** Hosts that the gate lets through. */
  readonly allowNetwork: readonly string[];
  /** Credentials from the keychain, by name, and the host each is for. */
  readonly credentials: readonly (readonly [name: string, host: string])[];
  /** Whether the writable directories can be brought back later. */
  readonly rollback: boolean;
  /** Whether the run is put on record. */
  readonly audit: boolean;
  readonly cwd: string;
  /** Milliseconds. */
  readonly timeout: number | undefined;
  readonly limits: Limits;
  readonly tier: "namespaces" | "flat" | undefined;
  readonly allowDegraded: readonly string[];
  readonly baseProfile: boolean;
  /** Where the result goes as JSON. */
  readonly jsonFd: number | undefined;
}

const many = { type: "string", multiple: true, default: [] as string[] } as const;
const one = { type: "string" } as const;
const flag = { type: "boolean", default: false } as const;

/**
 * Parses what follows `nono run`.
 *
 * @throws {@link ArgumentError} for a flag that does not exist or has no sensible value.
 */
export function parseRunFlags(args: string[]): RunFlags {
  const { values, positionals } = parse(args);
  if (values.network !== undefined && values["allow-net"].length > 0) {
    const hosts = values["allow-net"].join(" ");
    throw refuse("--allow-net", hosts, "Give either --network or --allow-net.");
  }
  return {
    help: values.help,
    command: positionals,
    read: values["allow-read"].map((name) => path.resolve(name)),
    write: values["allow-write"].map((name) => path.resolve(name)),
    exec: values["allow-exec"].map(programPath),
    allowEnv: values["allow-env"],
    setEnv: Object.fromEntries(values.env.map((text) => pair("--env", text))),
    network: choice("--network", values.network, ["blocked", "open"]) ?? "blocked",
    allowNetwork: values["allow-net"],
    credentials: values.credential.map((text) => pair("--credential", text)),
    rollback: values.rollback,
    audit: !values["no-audit"],
    cwd: path.resolve(values.cwd ?? process.cwd()),
    timeout: values.timeout === undefined ? undefined : number("--timeout", values.timeout) * 1000,
    limits: Object.fromEntries(values.limit.map((text) => limit(text))),
    tier: choice("--tier", values.tier, ["namespaces", "flat"]),
    allowDegraded: values["allow-degraded"],
    baseProfile: !values["no-base-profile"],
    jsonFd:
      values["json-fd"] === undefined
        ? values.json
          ? 2
          : undefined
        : descriptor(values["json-fd"]),
  };
}

/** A program as the user names it: a bare name is looked up in PATH, anything else is a path. */
export function programPath(name: string): string {
  return name.includes("/") ? path.resolve(name) : name;
}

// eslint-disable-next-line typescript/explicit-function-return-type -- inferred from the options
function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        help: { ...flag, short: "h" },
        "allow-read": many,
        "allow-write": many,
        "allow-exec": many,
        "allow-env": many,
        env: many,
        network: one,
        credential: many,
        rollback: flag,
        "no-audit": flag,
        "allow-net": many,
        cwd: one,
        timeout: one,
        limit: many,
        tier: one,
        "allow-degraded": many,
        "no-base-profile": flag,
        json: flag,
        "json-fd": one,
      },
    });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new ArgumentError("ERR_NONO_INVALID_OPTION", message, {
      remedy: "See nono --help. Put -- before the command.",
      cause,
    });
  }
}

function pair(name: string, text: string): [string, string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw refuse(name, text, "Give NAME=VALUE.");
}

function limit(text: string): [string, number] {
  const [name, value] = pair("--limit", text);
  return [name, number("--limit", value)];
}

function number(name: string, text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isFinite(value) && value >= 0) return value;
  throw refuse(name, text, "Give a number.");
}

function descriptor(text: string): number {
  const fd = number("--json-fd", text);
  if (Number.isInteger(fd) && fd !== 1) return fd;
  throw refuse("--json-fd", text, "Give the number of an open descriptor; not 1, the command's.");
}

function choice<T extends string>(
  name: string,
  text: string | undefined,
  allowed: readonly T[],
): T | undefined {
  if (text === undefined) return undefined;
  const found = allowed.find((value) => value === text);
  if (found !== undefined) return found;
  throw refuse(name, text, `Give ${allowed.join(" or ")}.`);
}

function refuse(name: string, value: string, remedy: string): ArgumentError {
  return new ArgumentError("ERR_NONO_INVALID_OPTION", `${name} can't be ${JSON.stringify(value)}`, {
    value,
    remedy,
  });
}
