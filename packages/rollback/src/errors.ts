/**
 * Every error of this package. `code` is stable, `path` is what the error is about.
 *
 * @example
 * ```ts
 * try {
 *   await before.rollback({ whenHeld: "refuse" });
 * } catch (error) {
 *   if (error instanceof RollbackError && error.code === "ERR_NONO_FILES_HELD") console.error(error.path);
 *   else throw error;
 * }
 * ```
 */
export class RollbackError extends Error {
  override readonly name: string = "RollbackError";
  /** `ERR_NONO_...`, as listed in the guide. */
  readonly code: string;
  /** The path that the error is about, if it is about one. */
  readonly path: string | undefined;

  constructor(code: string, message: string, options: ErrorOptions & { path?: string } = {}) {
    super(message, options);
    this.code = code;
    this.path = options.path;
  }
}

/** Awaits a call into the native part, whose errors arrive as JSON. */
export async function translated<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (cause) {
    throw fromNative(cause);
  }
}

function fromNative(cause: unknown): unknown {
  if (!(cause instanceof Error) || !cause.message.startsWith("{")) return cause;
  const { code, message, path } = JSON.parse(cause.message) as {
    code: string;
    message: string;
    path: string | null;
  };
  return new RollbackError(code, message, path === null ? {} : { path });
}
