/**
 * Where checkpoints are put on record; `@nono/audit`'s log is one.
 *
 * @example
 * ```ts
 * let seq = 0;
 * const events: EventSink = {
 *   record: async (event) => {
 *     writeFileSync("checkpoints.log", `${JSON.stringify(event)}\n`, { flag: "a", flush: true });
 *     return { seq: seq++ };
 *   },
 * };
 * await using before = await checkpoint("project", { events });
 * ```
 */
export interface EventSink {
  /** Resolves once the event is on record; a rejection stops the operation it announces. */
  record(event: SnapshotEvent): Promise<{ readonly seq: number }>;
}

/** What this package puts on record: an intent before each operation, a result after it. */
export interface SnapshotEvent {
  type: "snapshot.create" | "snapshot.restore" | "snapshot.commit";
  phase: "intent" | "result";
  decision: "allow" | "error";
  /** Sequence number of the intent that this is the result of. */
  ref?: number;
  object: { dirs: string[]; strategy: string; reason?: string; paths?: string[] };
  outcome?: { errno?: string; durationUs?: number };
}

/** Runs `operation` between its intent and its result. Without the intent on record it doesn't run. */
export async function onRecord<T>(
  sink: EventSink | undefined,
  type: SnapshotEvent["type"],
  object: SnapshotEvent["object"],
  operation: () => Promise<T>,
  describe: (result: T) => SnapshotEvent["object"] = () => object,
): Promise<T> {
  if (sink === undefined) return operation();
  const { seq } = await sink.record({ type, phase: "intent", decision: "allow", object });
  const started = performance.now();
  const durationUs = (): number => Math.round((performance.now() - started) * 1000);
  let result: T;
  try {
    result = await operation();
  } catch (error) {
    const errno = (error as { code?: string }).code ?? "ERR_NONO_ROLLBACK_IO";
    const outcome = { errno, durationUs: durationUs() };
    await sink.record({ type, phase: "result", decision: "error", ref: seq, object, outcome });
    throw error;
  }
  const outcome = { durationUs: durationUs() };
  const done = describe(result);
  await sink.record({ type, phase: "result", decision: "allow", ref: seq, object: done, outcome });
  return result;
}
