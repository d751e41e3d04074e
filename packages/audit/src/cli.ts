// `nono audit ...`: mounted by the nono command, driven directly by the tests.
import { AuditError, errnoOf, type AuditErrorCode } from "./errors.ts";
import { commands } from "./cli/commands.ts";
import { UsageError } from "./cli/usage.ts";
import { printable } from "./printable.ts";

/** Where a command reads and writes. */
export interface AuditIo {
  /** Takes what was asked for. */
  readonly stdout: (text: string) => void;
  /** Takes what went wrong. */
  readonly stderr: (text: string) => void;
  /** Ends `tail -f`. */
  readonly signal?: AbortSignal;
  /** What is meant where no directory is named; without it, one must be. */
  readonly records?: HostRecords;
}

/** Where a host keeps its records. */
export interface HostRecords {
  /** The ledger's directory. */
  readonly ledger: string;
  /** Holds a directory for each session, named as the last part of its origin. */
  readonly sessions: string;
  /** The verifier key of the ledger, as the host's own key file has it; undefined where there is none. */
  readonly vkey?: () => Promise<string | undefined>;
}

const help = `nono audit <command>

  verify [dir|proof]      how much is proven: INTACT, SIGNED, TIMED, WITNESSED
  show [dir]              the entries (--from N --to N --type T --decision D --reveal)
  tail [dir]              the last entries (-n N, -f to follow)
  prove [dir] <seq>       a .tlog-proof of one entry
  redact <dir> <seq>      erase disclosed values (--field NAME), recorded in the ledger
  anchor <ledger-dir>     submit the ledger's head (--policy FILE, --rekor URL, --tsa URL; for those two
                          --anchor-key FILE, or in a CI job --fulcio URL)
                          and renew the proofs of the sessions below --sessions DIR
  export [dir]            --format jsonl|ocsf|otlp|cloudevents
  doctor [ledger-dir]     sessions on record, and what is missing (--sessions DIR); the ledger's key.
                          Where no trust is given, that key's signature is enough

Without a directory: the last run of this host, and for doctor its ledger and sessions.
Trust: --key VKEY, --ledger-key VKEY (repeatable), --policy FILE (C2SP tlog-policy), --require RUNG,
       --root FILE (Sigstore trusted root) with --evidence-key FILE,
       or with --evidence-identity NAME and --evidence-issuer URL, for bundles without a key.
Ledger: --ledger DIR --origin NAME --key-file FILE. --json prints machine-readable answers.
Exit codes: 0 policy met or done, 1 tampered, 2 proof insufficient or not done, 3 usage.
`;

/**
 * Runs `nono audit ARGV`.
 *
 * @returns the exit code: 0 policy met or done, 1 tampered, 2 proof insufficient or not done, 3 usage.
 * @example
 * ```ts
 * process.exitCode = await runAuditCommand(["verify", dir, "--key", vkey], {
 *   stdout: (text) => process.stdout.write(text),
 *   stderr: (text) => process.stderr.write(text),
 * });
 * ```
 */
export async function runAuditCommand(argv: readonly string[], io: AuditIo): Promise<number> {
  const [name = "help", ...args] = argv;
  if (name === "help" || name === "--help") {
    io.stdout(help);
    return 0;
  }
  const command = commands.get(name);
  try {
    if (!command) throw new UsageError(`no command ${name}`);
    return await command(args, io);
  } catch (error) {
    return fail(error, args.includes("--json"), io);
  }
}

function fail(error: unknown, json: boolean, io: AuditIo): number {
  const isUsage = error instanceof UsageError;
  const code = isUsage ? "ERR_NONO_AUDIT_USAGE" : codeOf(error);
  if (code === undefined) throw error;
  const { message } = error as Error;
  if (json) io.stdout(`${printable(JSON.stringify({ error: { code, message } }))}\n`);
  io.stderr(
    `nono audit: ${printable(message)}${isUsage ? "\nSee nono audit help.\n" : ` [${code}]\n`}`,
  );
  return isUsage ? 3 : exitCodes[code as AuditErrorCode];
}

/** The code of what went wrong; a file that cannot be read is a mistake of the call. */
function codeOf(error: unknown): AuditErrorCode | undefined {
  if (error instanceof AuditError) return error.code;
  return errnoOf(error) === undefined ? undefined : "ERR_NONO_AUDIT_INPUT";
}

/** 1 is for contradictions alone: what could not be done proves nothing. */
const exitCodes: Readonly<Record<AuditErrorCode, 1 | 2 | 3>> = {
  ERR_NONO_AUDIT_INPUT: 3,
  ERR_NONO_AUDIT_FORMAT: 3,
  ERR_NONO_AUDIT_SIGNATURE: 1,
  ERR_NONO_AUDIT_PROOF: 1,
  ERR_NONO_AUDIT_CORRUPT: 1,
  ERR_NONO_AUDIT_FORK: 1,
  ERR_NONO_AUDIT_SIGNER: 2,
  ERR_NONO_AUDIT_WRITE: 2,
  ERR_NONO_AUDIT_OVERLOAD: 2,
  ERR_NONO_AUDIT_CLOSED: 2,
  ERR_NONO_AUDIT_LOCKED: 2,
  ERR_NONO_AUDIT_ANCHOR: 2,
};
