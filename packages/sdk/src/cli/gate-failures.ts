// Requests that nobody refused and that failed at the gate all the same, such as for a credential that
// can't be had. The command is told by an answer of HTTP, which many try again for minutes without a word.
import type { GateEvent } from "@nono/proxy";
import { tell } from "./output.ts";

/** Tells each of them once, on stderr. */
export class GateFailures {
  readonly #waits: boolean;
  readonly #known = new Set<string>();
  readonly #untold: string[] = [];

  /** @param waits Whether stderr is the command's screen while it runs: then they are told by {@link GateFailures.tellRest}. */
  constructor(waits: boolean) {
    this.#waits = waits;
  }

  /** Whether there were any. */
  get isEmpty(): boolean {
    return this.#known.size === 0;
  }

  /** Looks at what happens at the gate. */
  readonly note = ({ decision, object }: GateEvent): void => {
    if (decision !== "error" || object.reason === undefined) return;
    const host = "host" in object ? `${object.host}: ` : "";
    const line = `${host}${object.reason}`;
    if (this.#known.has(line)) return;
    this.#known.add(line);
    this.#untold.push(line);
    if (!this.#waits) this.tellRest();
  };

  /** Tells those that have not been told. */
  tellRest(): void {
    this.#untold.splice(0).forEach(tell);
  }
}
