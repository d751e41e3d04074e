// Salted disclosures (RFC 9901, SD-JWT): the entry carries a digest, the value lives apart and can be erased.
import { Buffer } from "node:buffer";
import { randomFillSync } from "node:crypto";
import { homedir } from "node:os";
import type { LogEvent, NonoEvent, Text } from "./event.ts";
import { sha256 } from "./merkle.ts";

/** The members of an event whose values are kept apart from the entry. */
export interface HiddenFields {
  readonly object?: ReadonlySet<string>;
  readonly actor?: ReadonlySet<string>;
}

/**
 * Chooses what is kept apart. `type`, `decision`, `rule` and host names always stay in clear.
 *
 * @example
 * ```ts
 * const redact: RedactRule = (event) =>
 *   event.type === "file.open" ? { object: new Set(["path"]) } : undefined;
 * ```
 */
export type RedactRule = (event: NonoEvent) => HiddenFields | undefined;

const command: ReadonlySet<string> = new Set(["argv", "command"]);
const url: ReadonlySet<string> = new Set(["path", "query", "reason"]);
const content: ReadonlySet<string> = new Set(["arguments", "result", "question", "target"]);
const places = ["path", "asked", "to", "cwd", "target", "dirs", "paths"] as const;

/**
 * Arguments, URL paths and queries, prompts and tool results, and paths below the home directory. Which program
 * acted (`actor.exe`, `actor.chain`) stays in clear: without that an entry says little.
 */
export const redactSensitive: RedactRule = (event) => {
  const object = hiddenOf(event.object, alwaysHidden(event.type));
  const actor = event.actor && hiddenOf(event.actor, command);
  if (object === undefined && actor === undefined) return undefined;
  return { ...(object && { object }), ...(actor && { actor }) };
};

function alwaysHidden(type: NonoEvent["type"]): ReadonlySet<string> | undefined {
  switch (type) {
    case "process.exec":
    case "session.open":
      return command;
    case "http.request":
    case "http.response":
      return url;
    case "tool.call":
    case "tool.result":
    case "approval.request":
      return content;
    default:
      return undefined;
  }
}

/** `always`, and what names a place below the home directory. */
function hiddenOf(
  members: object,
  always: ReadonlySet<string> | undefined,
): ReadonlySet<string> | undefined {
  let hidden = always;
  for (const name of places) {
    const value = (members as Readonly<Record<string, Text | readonly Text[] | undefined>>)[name];
    if (value === undefined || hidden?.has(name) || !isBelowHome(value)) continue;
    hidden = new Set(hidden).add(name);
  }
  return hidden;
}

const home = `${homedir()}/`;
const homeBytes = Buffer.from(home);

function isBelowHome(value: Text | readonly Text[]): boolean {
  if (typeof value === "string") return value.startsWith(home) || value === home.slice(0, -1);
  if (value instanceof Uint8Array) return homeBytes.equals(value.subarray(0, homeBytes.length));
  return Array.isArray(value) && value.some((one: Text) => isBelowHome(one));
}

/** Collects the disclosures of one entry while it is encoded. */
export class Redactor {
  readonly #rule: RedactRule;
  #disclosures: string[] = [];

  constructor(rule: RedactRule) {
    this.#rule = rule;
  }

  hidden(event: NonoEvent | LogEvent): HiddenFields | undefined {
    return this.#rule(event as NonoEvent);
  }

  /** Keeps a member apart and returns the digest that stands for it. `where` is only for the reader. */
  disclose(_where: string, name: string, json: string): string {
    const disclosure = Buffer.from(`["${salt()}","${name}",${json}]`).toString("base64url");
    this.#disclosures.push(disclosure);
    return disclosureDigest(disclosure);
  }

  /** The disclosures since the last call. */
  take(): string[] {
    const taken = this.#disclosures;
    if (taken.length > 0) this.#disclosures = [];
    return taken;
  }
}

/** What `_sd` carries for a disclosure. */
export function disclosureDigest(disclosure: string): string {
  return sha256(Buffer.from(disclosure, "ascii")).toString("base64url");
}

/** A disclosed member. @returns undefined when the text is not a disclosure. */
export function parseDisclosure(disclosure: string): { name: string; value: unknown } | undefined {
  try {
    const [, name, value] = JSON.parse(Buffer.from(disclosure, "base64url").toString("utf8")) as [
      string,
      string,
      unknown,
    ];
    return typeof name === "string" ? { name, value } : undefined;
  } catch {
    return undefined;
  }
}

// 128 random bits a field, drawn from the kernel's generator a pool at a time.
const saltSize = 16;
const pool = Buffer.alloc(256 * saltSize);
let used = pool.length;

function salt(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += saltSize;
  return pool.toString("base64url", used - saltSize, used);
}
