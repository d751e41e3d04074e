// Which errors are answers.

/** Every layer's errors have these; what has not is a defect, and shows its stack. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly value?: unknown;
  readonly remedy?: string;
  readonly details?: unknown;
}

/** Whether it is an error of one of the layers. */
export function isRefusal(error: unknown): error is Refusal {
  return error instanceof Error && "code" in error && String(error.code).startsWith("ERR_NONO_");
}

/** Any error as `--json` tells it: whoever reads that must not be left without an answer. */
export function errorInJson(error: unknown): { readonly error: Refusal } {
  if (!(error instanceof Error)) return { error: { code: "Error", message: String(error) } };
  const { code = error.name, message, value, remedy, details } = error as Error & Partial<Refusal>;
  return { error: { code, message, value, remedy, details } as Refusal };
}
