// `nono audit anchor`: the ledger's head, to whoever is named.
import { existsSync } from "node:fs";
import path from "node:path";
import type { Anchor } from "../anchor.ts";
import { listDirectory } from "../files.ts";
import { layout } from "../layout.ts";
import { parsePolicy } from "../policy.ts";
import { witnessAnchor } from "../witness.ts";
import type { Command } from "./commands.ts";
import { openReader } from "./open.ts";
import { ledgerOf, readArguments, readNamed, type Arguments, UsageError } from "./usage.ts";

/** `nono audit anchor`. */
export const anchor: Command = async (argv, io) => {
  const args = readArguments(argv, 1, [
    "json",
    "sessions",
    "origin",
    "key-file",
    "policy",
    "rekor",
    "tsa",
    "anchor-key",
    "fulcio",
  ]);
  const [dir = ""] = args.positionals;
  openReader(dir);
  const ledger = ledgerOf(args, dir, await anchorsOf(args));
  const results = await ledger.anchor();
  const seen = results.find(({ error }) => error === undefined);
  for (const session of seen ? sessionsBelow(args.text("sessions")) : [])
    await ledger.renewProofs(session, seen?.size);
  if (args.flag("json"))
    io.stdout(
      `${JSON.stringify(results.map(({ error, ...rest }) => ({ ...rest, error: error?.message })))}\n`,
    );
  for (const { anchor: name, size, error } of args.flag("json") ? [] : results) {
    io.stdout(
      error ? `${name}: ${error.message} [${error.code}]\n` : `${name}: has seen ${size} records\n`,
    );
  }
  if (results.some(({ error }) => error?.code === "ERR_NONO_AUDIT_FORK")) return 1;
  return results.some(({ error }) => error) ? 2 : 0;
};

/** The session logs in a directory. */
function sessionsBelow(root: string | undefined): string[] {
  return root === undefined
    ? []
    : listDirectory(root, ".")
        .map((name) => path.join(root, name))
        .filter((dir) => existsSync(path.join(dir, layout.ledger)));
}

/** Witnesses with a URL in the policy, and Sigstore where a service and a key are named. */
async function anchorsOf(args: Arguments): Promise<Anchor[]> {
  const policy = args.text("policy");
  const anchors: Anchor[] = [];
  for (const [name, { verifier, url }] of policy === undefined
    ? []
    : parsePolicy(readNamed(policy)).witnesses) {
    if (url !== undefined)
      anchors.push(witnessAnchor({ name: name.toLowerCase(), url, keys: [verifier.vkey] }));
  }
  anchors.push(...(await sigstoreOf(args)));
  if (anchors.length === 0)
    throw new UsageError("no anchor: --policy FILE with witness URLs, --rekor URL or --tsa URL");
  return anchors;
}

/** Signed by a key, or as whoever the CI job is. */
async function sigstoreOf(args: Arguments): Promise<Anchor[]> {
  const [rekorUrl, tsaUrl, keyFile, fulcio] = (
    ["rekor", "tsa", "anchor-key", "fulcio"] as const
  ).map((option) => args.text(option));
  if (rekorUrl === undefined && tsaUrl === undefined) return [];
  if ((keyFile === undefined) === (fulcio === undefined))
    throw new UsageError(
      "--rekor and --tsa need --anchor-key FILE, a P-256 key in PEM, or in a CI job --fulcio URL",
    );
  // Loaded on demand: the Sigstore packages are optional.
  const { sigstoreAnchor } = await import("../sigstore.ts");
  return [
    sigstoreAnchor({
      name: rekorUrl === undefined ? "tsa" : "rekor",
      ...(keyFile !== undefined && { key: readNamed(keyFile) }),
      ...(fulcio !== undefined && { fulcio: { url: fulcio } }),
      ...(rekorUrl !== undefined && { rekorUrl }),
      ...(tsaUrl !== undefined && { tsaUrl }),
    }),
  ];
}
