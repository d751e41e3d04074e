// --ask: the person at the terminal decides about what would be refused.
import type { Approval, SandboxedProcess, Violation } from "@nono/core";
import { Never } from "../learn/never.ts";
import type { SandboxSettings } from "../sandbox.ts";
import { refuse } from "./parse.ts";
import { type Answer, askWhether, hasTerminal } from "./question.ts";
import type { JoinedStreams } from "./terminal.ts";

/** How long an answer is waited for, in milliseconds: people leave their desks. */
const patience = 10 * 60_000;

const approvals: Readonly<Record<Answer, Approval>> = {
  once: { allow: true },
  session: { allow: true, remember: true },
  deny: { allow: false, remember: true },
  interrupt: { allow: false },
};

/** What was asked about, and nothing else: names may hold words such as " to ", and bytes that are no text. */
function keyOf({ operation, path, to, address, systemCall }: Violation): string {
  const bytes = [path, to].map((name) => name && Buffer.from(name).toString("hex"));
  return JSON.stringify([operation, ...bytes, address, systemCall]);
}

/** Asks one question at a time, and remembers what was answered for the session. */
export class Asker implements AsyncDisposable {
  /** For the sandbox that it asks about. */
  readonly settings: Pick<SandboxSettings, "onRequest" | "approvalTimeout"> = {
    approvalTimeout: patience,
    onRequest: (request, signal) => this.#inTurn(request, signal),
  };
  readonly #joined = Promise.withResolvers<JoinedStreams | undefined>();
  #child: SandboxedProcess | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  /** Aborted when the questions so far need no answer any more. */
  #waiting = new AbortController();
  /** Others may have asked the same before there was an answer. */
  readonly #known = new Map<string, Approval>();

  readonly #never: Never;

  /**
   * @param workspace Whose files are the command's own.
   * @throws {@link ArgumentError} when there is nobody to ask.
   */
  constructor(workspace: string) {
    this.#never = new Never(workspace);
    if (hasTerminal()) return;
    const remedy = "Run it on a terminal, or say what it may do by --allow-read and the like.";
    throw refuse("--ask needs a terminal, and there is none", "--ask", remedy);
  }

  /** From now on questions can be shown. */
  begin(child: SandboxedProcess, joined: JoinedStreams): void {
    this.#child = child;
    this.#joined.resolve(joined);
  }

  /** From now on everything is refused, and the terminal is no longer held. May be called again. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#waiting.abort();
    this.#joined.resolve(undefined); // there may have been no command
    await this.#turn;
  }

  #inTurn(request: Violation, signal: AbortSignal): Promise<Approval> {
    const relevant = AbortSignal.any([signal, this.#waiting.signal]);
    const answer = this.#turn.then(() => this.#answer(request, relevant));
    this.#turn = answer.catch(() => {}); // a question that fails is refused; the next one is asked
    return answer;
  }

  async #answer(request: Violation, signal: AbortSignal): Promise<Approval> {
    const joined = await this.#joined.promise;
    const asked = keyOf(request);
    const known = this.#known.get(asked);
    if (known !== undefined) return known;
    if (signal.aborted || joined === undefined) return false;
    using _ = joined.hold();
    const answer = await askWhether(request, this.#never, signal);
    if (answer === undefined) return false;
    if (answer === "interrupt") this.#interrupt();
    if (answer === "session" || answer === "deny") this.#known.set(asked, approvals[answer]);
    return approvals[answer];
  }

  /** Ctrl-C is for the command; what else it has asked until now is refused with it. */
  #interrupt(): void {
    this.#waiting.abort();
    this.#waiting = new AbortController();
    this.#child?.kill("SIGINT");
  }
}
