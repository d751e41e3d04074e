import process from "node:process";
import type { SandboxedProcess } from "@nono/core";

const forwarded = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

/**
 * Signals to nono mean the command: it leads a session of its own, so they are passed on. Those that
 * come before it has started reach it then.
 */
export class SignalForwarding implements Disposable {
  readonly #early: NodeJS.Signals[] = [];
  #target: SandboxedProcess | undefined;

  constructor() {
    for (const name of forwarded) process.on(name, this.#forward);
  }

  /** From now on they go to `child`. */
  to(child: SandboxedProcess): void {
    this.#target = child;
    for (const signal of this.#early.splice(0)) child.kill(signal);
  }

  [Symbol.dispose](): void {
    for (const name of forwarded) process.off(name, this.#forward);
  }

  readonly #forward = (signal: NodeJS.Signals): void => {
    if (this.#target) this.#target.kill(signal);
    else this.#early.push(signal);
  };
}
