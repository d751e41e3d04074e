// `nono audit ...`: mounted by the nono command, driven directly by the tests.
import { AuditError } from "./errors.ts";
import { commands } from "./cli/commands.ts";
import { UsageError } from "./cli/usage.ts";

/** Where a command reads and writes. */
export interface AuditIo {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  /** Ends `tail -f`. */
  readonly signal?: AbortSignal;
}

const help = `nono audit <command>

  verify <dir|proof>      how much is proven: INTACT, SIGNED, TIMED, WITNESSED
  show <dir>              the entries (--from N --to N --type T --reveal)
  tail <dir>              the last entries (-n N, -f to follow)
  prove <dir> <seq>       a .tlog-proof of one entry
  redact <dir> <seq>      erase disclosed values (--field NAME), recorded in the ledger
  anchor <ledger-dir>     submit the ledger's head (--policy FILE, --rekor URL, --tsa URL, --anchor-key FILE)
  export <dir>            --format jsonl|ocsf|otlp|cloudevents
  doctor <ledger-dir>     sessions on record, and what is missing (--sessions DIR)

Trust: --key VKEY, --ledger-key VKEY (repeatable), --policy FILE (C2SP tlog-policy), --require RUNG,
       --root FILE (Sigstore trusted root) with --evidence-key FILE.
Ledger: --ledger DIR --origin NAME --key-file FILE. --json prints machine-readable answers.
Exit codes: 0 policy met, 1 tampered, 2 proof insufficient, 3 usage.
`;

/**
 * Runs `nono audit ARGV`.
 *
 * @returns the exit code: 0 policy met or done, 1 tampered, 2 proof insufficient, 3 usage.
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
    if (error instanceof UsageError) {
      io.stderr(`nono audit: ${error.message}\n\n${help}`);
      return 3;
    }
    if (!(error instanceof AuditError)) throw error;
    io.stderr(`nono audit: ${error.message} [${error.code}]\n`);
    return error.code === "ERR_NONO_AUDIT_INPUT" || error.code === "ERR_NONO_AUDIT_FORMAT" ? 3 : 1;
  }
}
