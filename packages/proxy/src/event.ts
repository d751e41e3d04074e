import { GateError } from "./errors.ts";

/** What the gate did or refused, in the shape `@nono/audit` stores. */
export interface GateEvent {
  type: "net.connect" | "net.dns" | "http.request" | "http.response" | "credential.inject";
  /** An `intent` is recorded before the action happens; its `result` refers to it. */
  phase: "intent" | "result" | "event";
  decision: "allow" | "deny" | "error";
  /** Milliseconds since the epoch; stamped by the sink when absent. */
  time?: number;
  /** `seq` of the intent that this is the result of. */
  ref?: number;
  /** The policy entry that decided. */
  rule?: { id: string };
  object:
    | {
        host?: string;
        address?: string;
        port: number;
        transport: "tcp" | "udp";
        sni?: string;
        reason?: string;
      }
    | { name: string; qtype: string; answers?: string[]; reason?: string }
    | { method: string; scheme: string; host: string; port: number; path: string; reason?: string }
    | { status: number; host: string; reason?: string }
    | { name: string; host: string; scheme: string; reason?: string };
  outcome?: { errno?: string; status?: number; bytes?: number; durationUs?: number };
}

/**
 * Where events go: `@nono/audit`, or the user's own. Resolving means the record is durable.
 *
 * @example
 * let seq = 0;
 * const sink: EventSink = {
 *   record: async (event) => {
 *     writeFileSync("gate.log", `${JSON.stringify(event)}\n`, { flag: "a", flush: true });
 *     return { seq: seq++ };
 *   },
 * };
 */
export interface EventSink {
  /** Stores an event; rejects when it can't, and then what it announces does not happen. */
  record(event: GateEvent): Promise<{ readonly seq: number }>;
}

/** A refusal by the policy, kept for the run's report. */
export interface Violation {
  readonly time: number;
  readonly type: GateEvent["type"];
  readonly code: string;
  readonly message: string;
  /** The host, address or path that was refused. */
  readonly value: string | undefined;
  readonly rule: string | undefined;
}

const keptViolations = 1_000;

/** Sends events to the sink and to the observer, and keeps the refusals. */
export class Recorder {
  readonly violations: Violation[] = [];
  readonly #sink: EventSink | undefined;
  readonly #observe: ((event: GateEvent) => void) | undefined;
  readonly #pending = new Set<Promise<unknown>>();
  #failure: unknown;

  constructor(sink?: EventSink, observe?: (event: GateEvent) => void) {
    this.#sink = sink;
    this.#observe = observe;
  }

  /**
   * Records that something is about to happen and returns once that is durable.
   *
   * @throws GateError `ERR_NONO_NOT_RECORDED`: the action must not happen then
   */
  async intent(event: GateEvent): Promise<number | undefined> {
    this.#observe?.(event);
    if (!this.#sink) return undefined;
    if (this.#failure !== undefined) throw notRecorded(this.#failure);
    try {
      return (await this.#sink.record(event)).seq;
    } catch (error) {
      this.#failure = error;
      throw notRecorded(error);
    }
  }

  /**
   * Records what has happened. Nobody waits for it, but a sink that refuses it stops every later intent:
   * a log with holes is not continued.
   */
  note(event: GateEvent): void {
    this.#observe?.(event);
    if (!this.#sink) return;
    const pending = this.#sink.record(event).catch((error: unknown) => {
      this.#failure ??= error;
    });
    this.#pending.add(pending);
    void pending.finally(() => this.#pending.delete(pending));
  }

  /** Records a refusal with its reason; as a violation too, unless it is only that something failed. */
  deny(event: Omit<GateEvent, "phase" | "decision">, error: GateError): void {
    const rule = error.rule === undefined ? {} : { rule: { id: error.rule } };
    const object = { reason: error.message, ...event.object };
    const decision = error.isViolation ? "deny" : "error";
    this.note({ ...event, ...rule, object, phase: "event", decision });
    if (!error.isViolation) return;
    if (this.violations.length >= keptViolations) this.violations.shift();
    this.violations.push({
      time: Date.now(),
      type: event.type,
      code: error.code,
      message: error.message,
      value: error.value,
      rule: error.rule,
    });
  }

  /** Resolves when every record under way has been taken or refused. */
  async flush(): Promise<void> {
    await Promise.allSettled(this.#pending);
  }
}

function notRecorded(cause: unknown): GateError {
  return new GateError(
    "ERR_NONO_NOT_RECORDED",
    "The event log did not accept the record, so the action was refused.",
    { cause, remedy: "Check the audit log's disk and start a new session." },
  );
}
