import type { NativeEvents, NativeRequest } from "./binding.gen.ts";
import { fromNative, isViolation, type Violation } from "./event.ts";

/** What is said to a request: whether it may pass, and whether the same may from now on. */
export type Approval = boolean | { readonly allow: boolean; readonly remember?: boolean };

/**
 * Whoever is asked before an attempt is refused. Its process waits for the answer; others go on.
 *
 * Asked about are opening and creating files, connecting to unix sockets, in the tier `namespaces`
 * executing programs, and in the tier `flat` TCP connections. What is granted is exactly what was asked:
 * this file, opened in this way; this program as it is now, for this start of it (the script's
 * interpreter must be granted already). What a `deny` refuses stays refused without a question, and so do
 * programs in the tier `flat`: no process can widen its own Landlock domain. With `remember` the same path
 * and access, or address, are not asked about again in this sandbox. Every answer is on record: as an
 * event with `approved`, or as a violation.
 *
 * An error, or no answer within `approvalTimeout`, refuses.
 *
 * @param request What would be refused, by which rule.
 * @param signal Aborted when the answer does not count any more.
 * @example
 * ```ts
 * const sandbox = await createSandbox(capabilities, {
 *   onRequest: async ({ operation, path, process }) => {
 *     const answer = await ask(`${process.executable} wants to ${operation} ${path}. Allow? [y/N]`);
 *     return { allow: answer === "y", remember: true };
 *   },
 * });
 * ```
 */
export type OnRequest = (request: Violation, signal: AbortSignal) => Approval | Promise<Approval>;

/** Asks `onRequest` for the native addon, and answers in its place when it does not. */
export function approver(
  onRequest: OnRequest,
  timeout: number,
): (asked: NativeEvents, request: NativeRequest) => void {
  return (asked, request) => {
    const violation = fromNative(asked)[0]?.event;
    if (!violation || !isViolation(violation)) return request.answer(false, false);
    void answer(onRequest, violation, timeout).then(({ allow, remember }) =>
      request.answer(allow, remember),
    );
  };
}

/** What JavaScript may have answered: only `true` is a yes. */
interface Answer {
  readonly allow?: unknown;
  readonly remember?: unknown;
}

async function answer(
  onRequest: OnRequest,
  violation: Violation,
  timeout: number,
): Promise<{ allow: boolean; remember: boolean }> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), timeout);
  const aborted = new Promise<boolean>((resolve) => {
    late.signal.addEventListener("abort", () => resolve(false), { once: true });
  });
  try {
    const given: unknown = await Promise.race([onRequest(violation, late.signal), aborted]);
    const { allow, remember } =
      typeof given === "object" && given !== null ? (given as Answer) : { allow: given };
    return { allow: allow === true, remember: remember === true };
  } catch (error) {
    process.emitWarning(`onRequest failed, and the attempt was refused: ${String(error)}`);
    return { allow: false, remember: false };
  } finally {
    clearTimeout(timer);
  }
}
