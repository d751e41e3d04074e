/** The stable codes of every error this package throws. */
export type AuditErrorCode =
  | "ERR_NONO_AUDIT_INPUT"
  | "ERR_NONO_AUDIT_FORMAT"
  | "ERR_NONO_AUDIT_SIGNATURE"
  | "ERR_NONO_AUDIT_SIGNER"
  | "ERR_NONO_AUDIT_PROOF"
  | "ERR_NONO_AUDIT_WRITE"
  | "ERR_NONO_AUDIT_OVERLOAD"
  | "ERR_NONO_AUDIT_CLOSED"
  | "ERR_NONO_AUDIT_LOCKED"
  | "ERR_NONO_AUDIT_CORRUPT"
  | "ERR_NONO_AUDIT_FORK"
  | "ERR_NONO_AUDIT_ANCHOR";

/**
 * Any failure of the audit log. `code` is stable, `value` is what offended, `cause` what the
 * operating system or a library said.
 *
 * | code | meaning |
 * |---|---|
 * | `ERR_NONO_AUDIT_INPUT` | an event or option is not acceptable; nothing was written |
 * | `ERR_NONO_AUDIT_FORMAT` | bytes that are not a well-formed note, checkpoint, tile, proof or policy |
 * | `ERR_NONO_AUDIT_SIGNATURE` | a signature by a known key does not verify |
 * | `ERR_NONO_AUDIT_SIGNER` | the signer did not sign a checkpoint; its entries are durable, and the next one tries again |
 * | `ERR_NONO_AUDIT_PROOF` | a Merkle proof does not verify |
 * | `ERR_NONO_AUDIT_WRITE` | the disk refused; the log takes no further entries |
 * | `ERR_NONO_AUDIT_OVERLOAD` | more is waiting for the disk than the queue holds |
 * | `ERR_NONO_AUDIT_CLOSED` | the log was closed |
 * | `ERR_NONO_AUDIT_LOCKED` | another live process writes this log |
 * | `ERR_NONO_AUDIT_CORRUPT` | the directory contradicts itself; it is not continued |
 * | `ERR_NONO_AUDIT_FORK` | the directory is older than, or differs from, what was signed before |
 * | `ERR_NONO_AUDIT_ANCHOR` | a witness, Rekor or a time-stamp authority refused or did not answer |
 *
 * @example
 * ```ts
 * try {
 *   await log.record(event);
 * } catch (error) {
 *   if (error instanceof AuditError && error.code === "ERR_NONO_AUDIT_WRITE") refuseTheAction();
 * }
 * ```
 */
export class AuditError extends Error {
  override readonly name = "AuditError";
  readonly code: AuditErrorCode;
  readonly value: unknown;

  constructor(
    code: AuditErrorCode,
    message: string,
    options: { value?: unknown; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.value = options.value;
  }
}

/** The `errno` name of a system error ("ENOSPC"), or undefined for any other value. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
