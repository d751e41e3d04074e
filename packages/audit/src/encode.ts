// Events to RFC 8785 bytes, in one pass: every object is written in the order of a sorted field table,
// which is also the list of what is allowed. The tests compare the result with an independent canonicaliser.
import { Buffer } from "node:buffer";
import { AuditError } from "./errors.ts";
import type { LogEvent, NonoEvent, Text } from "./event.ts";
import { sha256 } from "./merkle.ts";
import type { Redactor } from "./redact.ts";
import { objectFields, partFields, type FieldKind, type Fields } from "./schema.ts";

/** What the log adds to an event. */
export interface EntryStamp {
  readonly seq: number;
  readonly id: string;
  /** The session as a JSON string, quotes included. */
  readonly session: string;
  readonly time: number;
  /** Monotonic nanoseconds. */
  readonly mono: string;
}

/**
 * The longest canonical forms, in bytes; whatever is longer is replaced by its digest and length. With every
 * member at its longest, an entry of any type stays below the 65,535 bytes that a bundle allows.
 */
export const maxSize = { word: 512, text: 4096, texts: 8192 } as const;

/** The entry version this package writes and reads. */
export const entryVersion = 1;

/**
 * The canonical JSON of an event.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` for an unknown type or member, or a value of the wrong kind.
 */
export function encodeEntry(
  event: NonoEvent | LogEvent,
  stamp: EntryStamp,
  redactor?: Redactor,
): string {
  const { actor, count, layer, outcome, ref, rule, trace } = event;
  const table = objectFields[event.type];
  if (!Object.hasOwn(objectFields, event.type))
    throw bad(`no event type ${event.type}`, event.type);
  for (const name in event)
    if (!(name in members)) throw bad(`events have no member ${name}`, name);
  const hidden = redactor?.hidden(event);
  let json = "{";
  if (actor !== undefined)
    json += `"actor":${encodeObject("actor", actor, partFields.actor, hidden?.actor, redactor)},`;
  if (count !== undefined) json += `"count":${positive(count, "count")},`;
  json += `"decision":${oneOf(event.decision, decisions, "decision")},"id":"${stamp.id}"`;
  if (layer !== undefined) {
    const [key, encoded] = encodeField("event", "layer", "word", layer);
    json += `,"${key}":${encoded}`;
  }
  json += `,"mono":"${stamp.mono}"`;
  json += `,"object":${encodeObject("object", event.object, table, hidden?.object, redactor)}`;
  if (outcome !== undefined)
    json += `,"outcome":${encodeObject("outcome", outcome, partFields.outcome)}`;
  json += `,"phase":${oneOf(event.phase, phases, "phase")}`;
  if (ref !== undefined) json += `,"ref":${integer(ref, "ref")}`;
  if (rule !== undefined) json += `,"rule":${encodeObject("rule", rule, partFields.rule)}`;
  json += `,"seq":${stamp.seq},"session":${stamp.session},"time":${integer(stamp.time, "time")}`;
  if (trace !== undefined) json += `,"trace":${encodeObject("trace", trace, partFields.trace)}`;
  return `${json},"type":"${event.type}","v":${entryVersion}}`;
}

const members: Readonly<Record<keyof NonoEvent, true>> = Object.assign(Object.create(null), {
  type: true,
  phase: true,
  decision: true,
  time: true,
  count: true,
  ref: true,
  layer: true,
  rule: true,
  actor: true,
  object: true,
  outcome: true,
  trace: true,
});
const decisions: Readonly<Record<string, string>> = quoted("allow", "deny", "ask", "error");
const phases: Readonly<Record<string, string>> = quoted("intent", "result", "event");

function quoted(...words: string[]): Record<string, string> {
  return Object.assign(
    Object.create(null),
    Object.fromEntries(words.map((word) => [word, `"${word}"`])),
  );
}

function oneOf(value: string, words: Readonly<Record<string, string>>, name: string): string {
  const word = words[value];
  if (word === undefined)
    throw bad(`${name} must be one of ${Object.keys(words).join(", ")}`, value);
  return word;
}

function encodeObject(
  where: string,
  object: object,
  table: Fields,
  hidden?: ReadonlySet<string>,
  redactor?: Redactor,
): string {
  if (typeof object !== "object" || object === null)
    throw bad(`${where} must be an object`, object);
  const values = object as Readonly<Record<string, unknown>>;
  let json = "";
  let written = 0;
  let digests: string[] | undefined;
  for (const [name, kind] of table) {
    const value = values[name];
    if (value === undefined) continue;
    written += 1;
    const [key, encoded] = encodeField(where, name, kind, value);
    if (redactor !== undefined && hidden?.has(name)) {
      (digests ??= []).push(redactor.disclose(where, key, encoded));
    } else {
      json += json === "" ? `"${key}":${encoded}` : `,"${key}":${encoded}`;
    }
  }
  if (written !== countDefined(values)) refuseUnknown(where, values, table);
  if (digests === undefined) return `{${json}}`;
  // Sorted, so that the order of the digests says nothing about the order of the fields (RFC 9901 4.2.4.1).
  const list = digests
    .toSorted()
    .map((digest) => `"${digest}"`)
    .join(",");
  return json === "" ? `{"_sd":[${list}]}` : `{"_sd":[${list}],${json}}`;
}

function countDefined(values: Readonly<Record<string, unknown>>): number {
  let count = 0;
  for (const name in values) if (values[name] !== undefined) count += 1;
  return count;
}

function refuseUnknown(
  where: string,
  values: Readonly<Record<string, unknown>>,
  table: Fields,
): never {
  const known = new Set(table.map(([name]) => name));
  const unknown = Object.keys(values).filter(
    (name) => values[name] !== undefined && !known.has(name),
  );
  throw bad(
    `${where} has no member ${unknown.join(", ")} (it has ${[...known].join(", ")})`,
    unknown,
  );
}

function encodeField(
  where: string,
  name: string,
  kind: FieldKind,
  value: unknown,
): [string, string] {
  const place = `${where}.${name}`;
  if (kind === "integer") return [name, String(integer(value, place))];
  if (kind === "texts") return encodeTexts(name, place, listOf(value, place, "texts"));
  if (kind === "processes") return encodeProcesses(name, place, listOf(value, place, "processes"));
  if (kind === "agent") return [name, encodeObject(place, value as object, partFields.agent)];
  if (typeof value === "string" && value.length < maxPlain && plain.test(value)) {
    return [name, `"${value}"`];
  }
  return encodeText(name, place, value, maxSize[kind]);
}

function listOf(value: unknown, name: string, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw bad(`${name} must be a list of ${what}`, value);
}

/** Text that is its own canonical form, and short enough for any kind. */
const maxPlain = maxSize.word - 2;
const plain = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

function encodeText(name: string, place: string, value: unknown, limit: number): [string, string] {
  const text = asText(value, place);
  const encoded = JSON.stringify(typeof text === "string" ? text : text.toString("base64"));
  if (Buffer.byteLength(encoded) > limit) return digestField(name, bytesOf(text));
  return [typeof text === "string" ? name : `${name}_b64`, encoded];
}

function encodeTexts(name: string, place: string, values: readonly unknown[]): [string, string] {
  const texts = values.map((value) => asText(value, place));
  const allStrings = texts.every((text) => typeof text === "string");
  const list = allStrings ? texts : texts.map((text) => bytesOf(text).toString("base64"));
  const encoded = JSON.stringify(list);
  if (Buffer.byteLength(encoded) <= maxSize.texts)
    return [allStrings ? name : `${name}_b64`, encoded];
  // The digest is over the NUL-terminated items, the form in which the kernel holds argv.
  return digestField(name, Buffer.concat(texts.flatMap((text) => [bytesOf(text), Buffer.of(0)])));
}

/** Processes that would take too much room are replaced by a digest of their canonical form. */
function encodeProcesses(
  name: string,
  place: string,
  processes: readonly unknown[],
): [string, string] {
  const list = processes.map((one) => encodeObject(place, one as object, partFields.process));
  const encoded = `[${list.join(",")}]`;
  if (Buffer.byteLength(encoded) <= maxSize.texts) return [name, encoded];
  return digestField(name, Buffer.from(encoded));
}

function digestField(name: string, bytes: Buffer): [string, string] {
  return [
    `${name}_digest`,
    `{"bytes":${bytes.length},"sha256":"${sha256(bytes).toString("hex")}"}`,
  ];
}

/** A well-formed string where the value is one, its bytes otherwise. */
function asText(value: unknown, name: string): string | Buffer {
  if (typeof value === "string") return value.isWellFormed() ? value : generalizedUtf8(value);
  if (!(value instanceof Uint8Array)) throw bad(`${name} must be a string or bytes`, value);
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.length);
  const text = bytes.toString("utf8");
  return Buffer.from(text).equals(bytes) ? text : bytes;
}

function bytesOf(text: Text): Buffer {
  return Buffer.from(text as string);
}

/** WTF-8: lone surrogates as three bytes, so that a hostile name is recorded rather than refused or altered. */
function generalizedUtf8(text: string): Buffer {
  return Buffer.concat(
    Array.from(text, (character) => {
      const code = character.codePointAt(0) ?? 0;
      if (code < 0xd800 || code > 0xdfff) return Buffer.from(character);
      return Buffer.of(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    }),
  );
}

function integer(value: unknown, name: string): number {
  if (!Number.isSafeInteger(value) || Object.is(value, -0))
    throw bad(`${name} must be an integer below 2^53`, value);
  return value as number;
}

function positive(value: unknown, name: string): number {
  if (integer(value, name) > 0) return value as number;
  throw bad(`${name} must be at least 1`, value);
}

function bad(message: string, value: unknown): AuditError {
  return new AuditError("ERR_NONO_AUDIT_INPUT", `the event is not acceptable: ${message}`, {
    value,
  });
}
