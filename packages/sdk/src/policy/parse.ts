// A policy's text or object, checked against the JSON Schema that is made from policy.ts. The checker
// and the parser are loaded only when a policy is used.
import { createRequire } from "node:module";
import type { ErrorObject, ValidateFunction } from "ajv";
import type { Node, ParseError } from "jsonc-parser";
import { PolicyError, type PolicyPlace } from "./errors.ts";
import schema from "./policy.schema.json" with { type: "json" };
import { suggestion } from "../suggest.ts";
import type { Policy } from "./policy.ts";

const require = createRequire(import.meta.url);

/**
 * Reads JSON with comments and trailing commas.
 *
 * @throws {@link PolicyError} that names line and column.
 */
export function parsePolicy(text: string, source: string): Policy {
  const { findNodeAtLocation } = require("jsonc-parser") as typeof import("jsonc-parser");
  const { tree, value } = read(text, source);
  return checkPolicy(value, source, (pointer) => {
    const node =
      findNodeAtLocation(tree, pointer) ?? findNodeAtLocation(tree, pointer.slice(0, -1));
    return placeAt(
      text,
      (node?.parent?.type === "property" ? node.parent : node)?.offset ?? 0,
      source,
    );
  });
}

function read(text: string, source: string): { tree: Node; value: unknown } {
  const { parseTree, getNodeValue, printParseErrorCode } =
    require("jsonc-parser") as typeof import("jsonc-parser");
  const refused = (what: string, offset = 0): PolicyError =>
    new PolicyError(placeAt(text, offset, source), what, {
      remedy: "A policy is an object in JSON; comments and trailing commas are welcome.",
    });
  try {
    const errors: ParseError[] = [];
    const tree = parseTree(text, errors, { allowTrailingComma: true });
    const [error] = errors;
    if (error !== undefined) throw refused(words(printParseErrorCode(error.error)), error.offset);
    if (tree === undefined) throw refused("the file is empty");
    const twice = repeatedName(tree);
    if (twice) throw refused(`${JSON.stringify(twice.value)} is there twice`, twice.offset);
    return { tree, value: getNodeValue(tree) };
  } catch (error) {
    // The stack is used up: each level is a call.
    throw error instanceof RangeError ? refused("it is nested too deeply") : error;
  }
}

/** A name that an object has twice: of the two, one would not count, whatever it denies. */
function repeatedName({ type, children = [] }: Node): Node | undefined {
  const names = new Set<unknown>();
  for (const child of children) {
    const [name] = type === "object" ? (child.children ?? []) : [];
    if (name && names.has(name.value)) return name;
    names.add(name?.value);
    const inner = repeatedName(child);
    if (inner) return inner;
  }
  return undefined;
}

/** Whether `value` is of the schema; else a {@link PolicyError} for the first thing that is not. */
export function checkPolicy(
  value: unknown,
  source: string,
  placeOf: (pointer: (string | number)[]) => PolicyPlace = () => ({ source }),
): Policy {
  const validate = validator();
  if (validate(value)) return value as Policy;
  const error = mostTelling(validate.errors ?? []);
  const pointer = error.instancePath
    .split("/")
    .slice(1)
    .map((part) => (/^\d+$/.test(part) ? Number(part) : unescapePointer(part)));
  const place = placeOf([...pointer, ...(unknownProperty(error) ?? [])]);
  throw new PolicyError(place, explain(error, pointer), {
    value: valueAt(value, pointer),
    remedy: remedyFor(error),
  });
}

let compiled: ValidateFunction | undefined;

function validator(): ValidateFunction {
  if (compiled === undefined) {
    const { Ajv } = require("ajv") as typeof import("ajv");
    compiled = new Ajv({ allErrors: true, verbose: true, allowUnionTypes: true }).compile(schema);
  }
  return compiled;
}

/** Of a union, every member complains; the deepest complaint is about what was meant. */
function mostTelling(errors: readonly ErrorObject[]): ErrorObject {
  const candidates = errors.filter(({ keyword }) => keyword !== "anyOf");
  const [first] = candidates.toSorted((a, b) => depth(b) - depth(a));
  // A schema that fails says so with at least one error.
  return first ?? errors[0]!;
}

function depth(error: ErrorObject): number {
  return error.instancePath.split("/").length + (unknownProperty(error) ? 0.5 : 0);
}

function explain(error: ErrorObject, pointer: readonly (string | number)[]): string {
  const where = pointer.length === 0 ? "a policy" : pointer.join(".");
  const [unknown] = unknownProperty(error) ?? [];
  if (unknown !== undefined) return `${where} has no property ${JSON.stringify(unknown)}`;
  if (error.keyword === "enum") {
    return `${where} can't be ${JSON.stringify(error.data)}`;
  }
  return `${where} ${error.message ?? "is not of the schema"}`;
}

function remedyFor(error: ErrorObject): string {
  const [unknown] = unknownProperty(error) ?? [];
  if (unknown !== undefined) {
    const known = Object.keys((error.parentSchema?.["properties"] ?? {}) as object);
    return suggestion(unknown, known) ?? `Known: ${known.join(", ")}.`;
  }
  if (error.keyword === "enum") {
    const known = (error.schema as unknown[]).map(String);
    return suggestion(String(error.data), known) ?? `Give one of ${known.join(", ")}.`;
  }
  return "The schema is printed by: nono policy schema";
}

function unknownProperty({ keyword, params }: ErrorObject): [string] | undefined {
  return keyword === "additionalProperties"
    ? [String((params as { additionalProperty: unknown }).additionalProperty)]
    : undefined;
}

function valueAt(value: unknown, pointer: readonly (string | number)[]): unknown {
  return pointer.reduce<unknown>((at, key) => (at as Record<string | number, unknown>)[key], value);
}

/** RFC 6901, section 4. */
function unescapePointer(part: string): string {
  return part.replaceAll("~1", "/").replaceAll("~0", "~");
}

function placeAt(text: string, offset: number, source: string): PolicyPlace {
  const before = text.slice(0, offset).split("\n");
  return { source, line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
}

/** `PropertyNameExpected` → `property name expected`. */
function words(name: string): string {
  return name.replaceAll(/(?<!^)([A-Z])/g, " $1").toLowerCase();
}
