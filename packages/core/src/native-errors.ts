// Errors cross from the native addon as an Error whose message is a JSON object; here they become
// typed.
import { getSystemErrorName } from "node:util";
import {
  ArgumentError,
  CapabilitiesError,
  type ErrorCode,
  ExecError,
  InternalError,
  LimitError,
  NonoError,
  PathError,
  SandboxClosedError,
  StartError,
  UnsupportedPlatformError,
  UnsupportedPolicyError,
} from "./errors.ts";

type NativeCode = Exclude<
  ErrorCode,
  "ERR_NONO_TIMEOUT" | "ERR_NONO_ABORTED" | "ERR_NONO_OUTPUT_LIMIT"
>;

const classes: Readonly<Record<NativeCode, typeof NonoError>> = {
  ERR_NONO_INVALID_PATH: PathError,
  ERR_NONO_PATH_NOT_FOUND: PathError,
  ERR_NONO_INVALID_ARGV: ArgumentError,
  ERR_NONO_INVALID_ENV: ArgumentError,
  ERR_NONO_INVALID_CWD: ArgumentError,
  ERR_NONO_INVALID_OPTION: ArgumentError,
  ERR_NONO_INVALID_CAPABILITIES: CapabilitiesError,
  ERR_NONO_LIMIT: LimitError,
  ERR_NONO_EXEC_NOT_FOUND: ExecError,
  ERR_NONO_EXEC_NOT_ALLOWED: ExecError,
  ERR_NONO_UNSUPPORTED_POLICY: UnsupportedPolicyError,
  ERR_NONO_UNSUPPORTED_PLATFORM: UnsupportedPlatformError,
  ERR_NONO_SPAWN_FAILED: StartError,
  ERR_NONO_SANDBOX_FAILED: StartError,
  ERR_NONO_RESTRICT_FAILED: StartError,
  ERR_NONO_SANDBOX_CLOSED: SandboxClosedError,
  ERR_NONO_INTERNAL: InternalError,
};

/** The typed error for what the native addon threw: an Error whose message is a JSON object. */
export function fromNative(thrown: unknown): NonoError {
  if (thrown instanceof NonoError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  const fields = parseObject(text);
  const code = fields?.["code"];
  if (fields === undefined || typeof code !== "string" || !Object.hasOwn(classes, code)) {
    return new InternalError(
      "ERR_NONO_INTERNAL",
      `Unexpected error from the native part: ${text}`,
      {
        remedy: "This is a defect of nono. Please report it with this message.",
        cause: thrown,
      },
    );
  }
  const known = code as NativeCode;
  return new classes[known](known, String(fields["message"]), {
    value: fields["value"],
    remedy: typeof fields["remedy"] === "string" ? fields["remedy"] : "",
    details: namedErrno((fields["details"] ?? {}) as Record<string, unknown>),
  });
}

/** Error numbers differ between systems; their names don't. */
function namedErrno(details: Record<string, unknown>): Record<string, unknown> {
  const { errno } = details;
  return typeof errno === "number" && errno > 0
    ? { ...details, errno: getSystemErrorName(-errno) }
    : details;
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null
      ? (parsed as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Calls into the native addon; what it throws becomes a typed error. */
export function native<T>(call: () => T): T {
  try {
    return call();
  } catch (thrown) {
    throw fromNative(thrown);
  }
}

/** The same for a call that returns a promise. */
export async function nativeAsync<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw fromNative(thrown);
  }
}
