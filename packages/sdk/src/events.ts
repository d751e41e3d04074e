// What happens in a sandbox, for listeners. The sandbox may be built anew in between (after a rollback);
// its listeners stay.
import { EventEmitter } from "node:events";
import type { EventGap, SandboxEvent, SandboxEvents as CoreEvents, Violation } from "@nono/core";
import type { GateEvent } from "@nono/proxy";

/** The events of {@link SandboxEmitter}, by name. */
export interface SandboxEmitterMap {
  /** A command attempted something; see `SandboxSettings.observe` for how much is told. */
  event: [event: SandboxEvent];
  /** The kernel refused an attempt; the same object was an `event` before. */
  violation: [violation: Violation];
  /** Attempts were lost, because nobody took the events before them in time. */
  gap: [gap: EventGap];
  /** The gate let something through or refused it. */
  gate: [event: GateEvent];
}

/**
 * An emitter of what commands attempt.
 *
 * @example
 * ```ts
 * sandbox.events.on("violation", ({ operation, path, suggestion }) => {
 *   console.error(operation, String(path), suggestion?.call);
 * });
 * ```
 */
export class SandboxEmitter extends EventEmitter<SandboxEmitterMap> {
  /** @internal Hands on what happens in a sandbox of `@nono/core`. */
  follow(events: CoreEvents): void {
    events.on("event", (event) => this.emit("event", event));
    events.on("violation", (violation) => this.emit("violation", violation));
    events.on("gap", (gap) => this.emit("gap", gap));
  }
}
