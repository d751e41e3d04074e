// Arguments of the audit commands.
import { readFileSync } from "node:fs";
import { parseArgs, type ParseArgsOptionDescriptor, type ParseArgsOptionsConfig } from "node:util";
import { errnoOf } from "../errors.ts";
import { keyFileSigner } from "../key-file.ts";
import { HostLedger } from "../ledger.ts";
import { rungs, type Rung } from "../report.ts";
import type { EvidenceVerifier, VerifyPolicy } from "../verify-trust.ts";

/** A mistake in how a command was called. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Every option there is. */
export type OptionName =
  | "json"
  | "key"
  | "ledger-key"
  | "policy"
  | "require"
  | "from"
  | "to"
  | "type"
  | "decision"
  | "reveal"
  | "follow"
  | "lines"
  | "field"
  | "ledger"
  | "origin"
  | "key-file"
  | "rekor"
  | "tsa"
  | "anchor-key"
  | "fulcio"
  | "format"
  | "sessions"
  | "root"
  | "evidence-key"
  | "evidence-identity"
  | "evidence-issuer";

/** Their kinds; each command names those it takes. */
const known: Readonly<Record<OptionName, ParseArgsOptionDescriptor>> = {
  json: { type: "boolean" },
  key: { type: "string", multiple: true },
  "ledger-key": { type: "string", multiple: true },
  policy: { type: "string" },
  require: { type: "string" },
  from: { type: "string" },
  to: { type: "string" },
  type: { type: "string" },
  decision: { type: "string" },
  reveal: { type: "boolean" },
  follow: { type: "boolean", short: "f" },
  lines: { type: "string", short: "n" },
  field: { type: "string" },
  ledger: { type: "string" },
  origin: { type: "string" },
  "key-file": { type: "string" },
  rekor: { type: "string" },
  tsa: { type: "string" },
  "anchor-key": { type: "string" },
  fulcio: { type: "string" },
  format: { type: "string" },
  sessions: { type: "string" },
  root: { type: "string" },
  "evidence-key": { type: "string" },
  "evidence-identity": { type: "string" },
  "evidence-issuer": { type: "string" },
};

/** Parsed arguments. */
export interface Arguments {
  readonly positionals: readonly string[];
  text(name: OptionName): string | undefined;
  list(name: OptionName): readonly string[];
  flag(name: OptionName): boolean;
  /** A whole number, or undefined. */
  number(name: OptionName): number | undefined;
}

/** Parses `args`, allowing the named options and `count` positional arguments; the first `optional` may be absent. */
export function readArguments(
  args: readonly string[],
  count: number,
  allowed: readonly OptionName[],
  optional = 0,
): Arguments {
  const options: ParseArgsOptionsConfig = Object.fromEntries(
    allowed.map((name) => [name, known[name]]),
  );
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const { values, positionals } = parsed;
  if (positionals.length > count || positionals.length < count - optional) {
    const least = optional > 0 ? `${count - optional} to ` : "";
    throw new UsageError(`expected ${least}${count} arguments, got ${positionals.length}`);
  }
  const text = (name: OptionName): string | undefined => values[name] as string | undefined;
  return {
    positionals,
    text,
    list: (name) => (values[name] as string[] | undefined) ?? [],
    flag: (name) => values[name] === true,
    number: (name) => {
      const value = text(name);
      return value === undefined ? undefined : wholeNumber(value);
    },
  };
}

/** A whole number. */
export function wholeNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`${text} is not a whole number`);
  return Number(text);
}

/** Reads a file the user named. */
export function readNamed(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`cannot read ${file} (${errnoOf(error) ?? String(error)})`);
  }
}

/** The trust options. */
export const trustOptions = [
  "key",
  "ledger-key",
  "policy",
  "require",
  "root",
  "evidence-key",
  "evidence-identity",
  "evidence-issuer",
] as const;

/** What to trust, from the trust options. */
export async function trustOf(args: Arguments): Promise<VerifyPolicy> {
  const required = args.text("require")?.toUpperCase();
  if (required !== undefined && !rungs.includes(required as Rung))
    throw new UsageError(`--require is one of ${rungs.join(", ")}`);
  const policy = args.text("policy");
  return {
    keys: args.list("key"),
    ledgerKeys: args.list("ledger-key"),
    ...(policy !== undefined && { witnesses: readNamed(policy) }),
    evidence: await evidenceOf(args),
    ...(required !== undefined && { require: required as Rung }),
  };
}

/** A reader of Sigstore bundles, where a trusted root is given, and the key or the identity that signs. */
async function evidenceOf(args: Arguments): Promise<EvidenceVerifier[]> {
  const [root, key, name, issuer] = (
    ["root", "evidence-key", "evidence-identity", "evidence-issuer"] as const
  ).map((option) => args.text(option));
  const given = [key, name, issuer].filter((option) => option !== undefined).length;
  if (root === undefined && given === 0) return [];
  const byKey = key !== undefined && given === 1;
  const byIdentity = name !== undefined && issuer !== undefined && given === 2;
  if (root === undefined || !(byKey || byIdentity))
    throw new UsageError(
      "bundles need --root FILE, and either --evidence-key FILE or --evidence-identity NAME with --evidence-issuer URL",
    );
  // Loaded on demand: the Sigstore packages are optional.
  const { sigstoreEvidence } = await import("../sigstore.ts");
  const signer = byIdentity
    ? { identity: { subjectAlternativeName: name, issuer } }
    : { key: readNamed(key ?? "") };
  return [sigstoreEvidence({ trustedRoot: readNamed(root), ...signer, tlogThreshold: 0 })];
}

/** The ledger options. */
export const ledgerOptions = ["ledger", "origin", "key-file"] as const;

/** The ledger the options name. */
export function ledgerOf(
  args: Arguments,
  dir: string | undefined = args.text("ledger"),
  anchors: ConstructorParameters<typeof HostLedger>[0]["anchors"] = [],
): HostLedger {
  const origin = args.text("origin");
  const keyFile = args.text("key-file");
  if (dir === undefined || origin === undefined || keyFile === undefined) {
    throw new UsageError("the ledger needs --ledger DIR, --origin NAME and --key-file FILE");
  }
  return new HostLedger({ dir, origin, signer: keyFileSigner(keyFile, origin), anchors });
}
