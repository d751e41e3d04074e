/** Milliseconds for which a failure is the answer: each question may be a prompt, or count towards a lock-out. */
const failureKept = 5_000;

/**
 * Asks once for all who ask meanwhile, and does not ask again at once when the answer was a failure: how often the
 * sandbox sends a request must not decide how often a command runs or a refresh token is used (used twice at a time, it
 * is taken for stolen: RFC 9700 section 4.14.2).
 */
export class SingleFlight<T> {
  readonly #running = new Map<string, Promise<T>>();
  readonly #failed = new Map<string, { readonly error: unknown; readonly until: number }>();

  async run(name: string, ask: () => Promise<T>): Promise<T> {
    const failed = this.#failed.get(name);
    if (failed && failed.until > Date.now()) throw failed.error;
    let running = this.#running.get(name);
    if (!running) {
      running = this.#ask(name, ask).finally(() => this.#running.delete(name));
      this.#running.set(name, running);
    }
    return running;
  }

  async #ask(name: string, ask: () => Promise<T>): Promise<T> {
    try {
      const answer = await ask();
      this.#failed.delete(name);
      return answer;
    } catch (error) {
      this.#failed.set(name, { error, until: Date.now() + failureKept });
      throw error;
    }
  }
}
