import { CapabilitiesError } from "@nono/core";

/** Where in a policy something is. */
export interface PolicyPlace {
  /** The file, or the preset's name, or what stands for a policy that was given as an object. */
  readonly source: string;
  /** From 1; absent when the policy has no text. */
  readonly line?: number;
  /** From 1. */
  readonly column?: number;
}

/**
 * A policy can't be read, is not of the schema, or names what does not exist
 * (`ERR_NONO_INVALID_CAPABILITIES`). The message begins with the place.
 *
 * @example
 * ```ts
 * try {
 *   new Sandbox().use("./nono.jsonc");
 * } catch (error) {
 *   if (error instanceof PolicyError) console.error(error.place.source, error.place.line);
 * }
 * ```
 */
export class PolicyError extends CapabilitiesError {
  /** Where it is. */
  readonly place: PolicyPlace;

  /** @internal */
  constructor(
    place: PolicyPlace,
    message: string,
    info: { readonly value?: unknown; readonly remedy: string; readonly cause?: unknown },
  ) {
    const { source, line, column } = place;
    const at = line === undefined ? source : `${source}:${line}:${column}`;
    super("ERR_NONO_INVALID_CAPABILITIES", `${at}: ${message}`, { ...info, details: { ...place } });
    this.place = place;
  }
}
