import { GateError, type GateErrorCode } from "../errors.ts";

/**
 * Where a credential's value comes from. Asked at first use, and once more when a server answers 401.
 *
 * @example
 * const source: CredentialSource = {
 *   description: "the machine's token service",
 *   ttl: 600_000,
 *   read: async () => Buffer.from(await (await fetch("http://127.0.0.1:8200/token")).arrayBuffer()),
 * };
 */
export interface CredentialSource {
  /** For messages: `environment variable GITHUB_TOKEN`. Never the value. */
  readonly description: string;
  /** Milliseconds for which a value may be kept; default: as long as the gate. */
  readonly ttl?: number;
  /**
   * The value as bytes; the gate zeroes them when it is done.
   *
   * @throws GateError `ERR_NONO_CREDENTIAL_MISSING`, `_LOCKED`, `_STORE` or `_INVALID`
   */
  read(): Promise<Buffer>;
}

/** The failure of a source: says where it looked and what to do, never what it found. */
export function sourceError(
  code: Extract<GateErrorCode, `ERR_NONO_CREDENTIAL_${string}`>,
  message: string,
  remedy: string,
  cause?: unknown,
): GateError {
  return new GateError(code, message, { remedy, cause });
}
