// Requests for approval, and what was answered, on record.
import type { Approval, OnRequest, Violation } from "@nono/core";
import type { RunRecord } from "./audit.ts";
import { describeViolation } from "./violation.ts";

/**
 * `ask`, with the question on record before it is asked and the answer before it counts. What can't be put
 * on record is refused: an error here is a no.
 */
export function onRecord(ask: OnRequest, record: RunRecord): OnRequest {
  return async (request: Violation, signal: AbortSignal): Promise<Approval> => {
    const { seq: ref } = await record.record({
      type: "approval.request",
      phase: "intent",
      decision: "ask",
      object: {
        question: describeViolation(request),
        ...(request.path !== undefined && { target: request.path }),
      },
    });
    const approval = await ask(request, signal);
    const isAllowed = approval === true || (typeof approval === "object" && approval.allow);
    await record.record({
      type: "approval.answer",
      phase: "result",
      decision: isAllowed ? "allow" : "deny",
      ref,
      object: { answer: isAllowed ? "yes" : "no" },
    });
    return approval;
  };
}
