/** Every code that an error of this package can carry. Codes are stable; messages are not. */
export type ErrorCode =
  | "ERR_NONO_INVALID_PATH"
  | "ERR_NONO_PATH_NOT_FOUND"
  | "ERR_NONO_INVALID_ARGV"
  | "ERR_NONO_INVALID_ENV"
  | "ERR_NONO_INVALID_CWD"
  | "ERR_NONO_INVALID_OPTION"
  | "ERR_NONO_INVALID_CAPABILITIES"
  | "ERR_NONO_LIMIT"
  | "ERR_NONO_EXEC_NOT_FOUND"
  | "ERR_NONO_EXEC_NOT_ALLOWED"
  | "ERR_NONO_UNSUPPORTED_POLICY"
  | "ERR_NONO_UNSUPPORTED_PLATFORM"
  | "ERR_NONO_SPAWN_FAILED"
  | "ERR_NONO_SANDBOX_FAILED"
  | "ERR_NONO_RESTRICT_FAILED"
  | "ERR_NONO_SANDBOX_CLOSED"
  | "ERR_NONO_TIMEOUT"
  | "ERR_NONO_ABORTED"
  | "ERR_NONO_OUTPUT_LIMIT"
  | "ERR_NONO_INTERNAL";

/** What every error says besides its message. */
export interface ErrorInfo {
  /** The value that was refused. */
  readonly value?: unknown;
  /** What to do about it, in one or two sentences. */
  readonly remedy?: string;
  /** Machine-readable facts of this code, such as `stage` and `errno`. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** The error below this one. */
  readonly cause?: unknown;
}

/**
 * The base of all errors thrown by nono. Compare `code`, or use `instanceof` with a subclass; each
 * subclass stands for one family of codes.
 *
 * @example
 * ```ts
 * try {
 *   await createSandbox({ read: ["relative/path"] });
 * } catch (error) {
 *   if (error instanceof NonoError) console.error(error.code, error.value, error.remedy);
 * }
 * ```
 */
export class NonoError extends Error {
  /** The stable identity of the error. */
  readonly code: ErrorCode;
  /** The value that was refused, if there is one. */
  readonly value: unknown;
  /** What to do about it. Empty when there is nothing to advise. */
  readonly remedy: string;
  /** Machine-readable facts of this code. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, info: ErrorInfo = {}) {
    super(message, "cause" in info ? { cause: info.cause } : undefined);
    this.name = new.target.name;
    this.code = code;
    this.value = info.value;
    this.remedy = info.remedy ?? "";
    this.details = info.details ?? {};
  }
}

/**
 * A path was refused: relative, empty or with a NUL byte (`ERR_NONO_INVALID_PATH`), or nothing is
 * there (`ERR_NONO_PATH_NOT_FOUND`).
 */
export class PathError extends NonoError {}

/**
 * An argument of a call was refused: `ERR_NONO_INVALID_ARGV`, `ERR_NONO_INVALID_ENV`,
 * `ERR_NONO_INVALID_CWD` or `ERR_NONO_INVALID_OPTION`. Nothing was started.
 */
export class ArgumentError extends NonoError {}

/** The capabilities contradict each other or themselves (`ERR_NONO_INVALID_CAPABILITIES`). */
export class CapabilitiesError extends NonoError {}

/** A limit is out of range, or the system's own limit was met (`ERR_NONO_LIMIT`). */
export class LimitError extends NonoError {}

/**
 * No directory of `PATH` has the program (`ERR_NONO_EXEC_NOT_FOUND`), or the capabilities do not let it be
 * executed (`ERR_NONO_EXEC_NOT_ALLOWED`).
 */
export class ExecError extends NonoError {}

/**
 * This kernel can't enforce something that the capabilities ask for
 * (`ERR_NONO_UNSUPPORTED_POLICY`). `guarantees` names what is missing: accept it with
 * `allowDegraded`, or run elsewhere.
 *
 * @example
 * ```ts
 * try {
 *   await createSandbox(capabilities);
 * } catch (error) {
 *   if (!(error instanceof UnsupportedPolicyError)) throw error;
 *   console.error(`this machine cannot enforce ${error.guarantees.join(", ")}`);
 * }
 * ```
 */
export class UnsupportedPolicyError extends NonoError {
  /** Names of the guarantees that can't be given here. */
  get guarantees(): readonly string[] {
    const names = this.details["guarantees"];
    return Array.isArray(names) ? names.map(String) : [];
  }
}

/** There is no native part for this machine, or it did not load (`ERR_NONO_UNSUPPORTED_PLATFORM`). */
export class UnsupportedPlatformError extends NonoError {}

/**
 * The kernel refused a step on the way: of a command (`ERR_NONO_SPAWN_FAILED`), of the sandbox itself
 * (`ERR_NONO_SANDBOX_FAILED`), or of `restrictSelf` (`ERR_NONO_RESTRICT_FAILED`; when
 * `details.partial` is true, some threads are restricted and others are not: end the process).
 * `details.stage` and `details.errno` say which.
 */
export class StartError extends NonoError {}

/** The sandbox has been closed (`ERR_NONO_SANDBOX_CLOSED`). */
export class SandboxClosedError extends NonoError {}

/** What a command left behind when it was interrupted. */
export interface PartialResult {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly stdout: string | Buffer;
  readonly stderr: string | Buffer;
}

/**
 * `run` ended a command before its time: `ERR_NONO_TIMEOUT`, `ERR_NONO_ABORTED` (then `name` is
 * `"AbortError"` as everywhere in Node, and `cause` the reason of the signal) or
 * `ERR_NONO_OUTPUT_LIMIT`.
 *
 * @example
 * ```ts
 * try {
 *   await sandbox.run(["make", "test"], { timeout: 60_000 });
 * } catch (error) {
 *   if (error instanceof InterruptedError) console.error(error.code, error.result?.stdout);
 * }
 * ```
 */
export class InterruptedError extends NonoError {
  /** Exit and output so far; absent when the command had not been started. */
  readonly result: PartialResult | undefined;

  constructor(
    code: "ERR_NONO_TIMEOUT" | "ERR_NONO_ABORTED" | "ERR_NONO_OUTPUT_LIMIT",
    message: string,
    info: ErrorInfo & { readonly result?: PartialResult },
  ) {
    super(code, message, info);
    if (code === "ERR_NONO_ABORTED") this.name = "AbortError";
    this.result = info.result;
  }
}

/** A defect of nono itself (`ERR_NONO_INTERNAL`): please report it. */
export class InternalError extends NonoError {}
