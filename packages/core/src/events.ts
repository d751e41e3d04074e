import { EventEmitter } from "node:events";
import type { NativeSandbox } from "./binding.gen.ts";
import {
  type EventGap,
  fromNative,
  isViolation,
  type SandboxEvent,
  type Violation,
} from "./event.ts";
import { native } from "./native-errors.ts";

/** The events of {@link SandboxEvents}, by name. */
export interface SandboxEventMap {
  /** Something was attempted. */
  event: [event: SandboxEvent];
  /** A rule refused an attempt; the same object was an `event` before. */
  violation: [violation: Violation];
  /** Attempts were lost, because nobody took the events before them in time. */
  gap: [gap: EventGap];
}

/** Taken from the addon in one turn of the event loop. */
const batch = 256;
/** Milliseconds until what came meanwhile is taken together: waking up for each costs more than it. */
const pause = 2;
/** A reader of the iterator that is so far behind holds the others up, and the addon counts. */
const backlog = 4096;
/** Violations that are kept. */
const kept = 10_000;

/**
 * What the commands of a sandbox attempt, as it happens: an emitter of `event`, `violation` and `gap`,
 * and an async iterable that ends when the sandbox is closed.
 *
 * Commands never wait for whoever listens. Between them and a listener is a queue; if that gets long,
 * like attempts become one event with a `count`, and if it gets full, a `gap` says how many are missing.
 * Allowed attempts make room for violations first.
 *
 * @example
 * ```ts
 * sandbox.events.on("violation", ({ operation, path, rule }) => {
 *   console.error(operation, String(path), rule);
 * });
 * for await (const event of sandbox.events) log.write(JSON.stringify(event));
 * ```
 */
export class SandboxEvents extends EventEmitter<SandboxEventMap> {
  readonly #native: NativeSandbox;
  readonly #violations: Violation[] = [];
  readonly #deniedByCommand = new Map<number, Violation[]>();
  readonly #readers = new Set<Reader>();
  #pumping = false;
  #closed = false;

  /** @internal */
  constructor(sandbox: NativeSandbox) {
    super();
    this.#native = sandbox;
    native(() => sandbox.onEvents(() => this.#pump()));
  }

  /** The violations so far, oldest first; the first 10,000 are kept. */
  get violations(): readonly Violation[] {
    this.flush();
    return this.#violations;
  }

  /** How many attempts were refused so far, those of gaps included. */
  get denied(): number {
    return native(() => this.#native.refused());
  }

  /** The events from now on. */
  [Symbol.asyncIterator](): AsyncIterableIterator<SandboxEvent> {
    const reader = new Reader((ended) => {
      if (ended) this.#readers.delete(reader);
      this.#pump();
    });
    if (this.#closed) reader.end();
    else this.#readers.add(reader);
    return reader;
  }

  /**
   * The kept violations of one command that has ended, and of its children, once: its process id may
   * become another's.
   *
   * @internal
   */
  takeOfCommand(pid: number): readonly Violation[] {
    this.flush();
    const violations = this.#deniedByCommand.get(pid) ?? [];
    this.#deniedByCommand.delete(pid);
    return violations;
  }

  /**
   * Hands on everything that has happened until now.
   *
   * @internal
   */
  flush(): void {
    while (this.#take(batch) > 0);
  }

  /** @internal */
  end(): void {
    this.flush();
    this.#closed = true;
    for (const reader of this.#readers) reader.end();
    this.#readers.clear();
  }

  /** Hands events on, the first at once, a batch in each turn: a flood leaves room for everything else. */
  #pump(): void {
    if (this.#pumping || this.#closed) return;
    if (Array.from(this.#readers).some((reader) => reader.waiting >= backlog)) return;
    const taken = this.#take(batch);
    if (taken === 0) return;
    this.#pumping = true;
    const next = (): void => {
      this.#pumping = false;
      this.#pump();
    };
    if (taken === batch) setImmediate(next);
    else setTimeout(next, pause);
  }

  #take(most: number): number {
    // Objects are dear: none are made of events that nobody would get.
    const isHeard = this.listenerCount("event") > 0 || this.#readers.size > 0;
    const taken = native(() => this.#native.takeEvents(most, !isHeard));
    const { lostAllowed, lostRefused } = taken;
    if (lostAllowed + lostRefused > 0) {
      this.emit("gap", { allowed: lostAllowed, denied: lostRefused });
    }
    for (const { event, commands } of fromNative(taken)) {
      this.emit("event", event);
      for (const reader of this.#readers) reader.put(event);
      if (isViolation(event)) this.#keep(event, commands);
    }
    return taken.taken;
  }

  #keep(violation: Violation, commands: readonly number[]): void {
    if (this.#violations.length < kept) {
      this.#violations.push(violation);
      for (const pid of new Set(commands)) {
        const ofCommand = this.#deniedByCommand.get(pid);
        if (ofCommand) ofCommand.push(violation);
        else this.#deniedByCommand.set(pid, [violation]);
      }
    }
    this.emit("violation", violation);
  }
}

/** One reader of the iterator, with what it has not read yet. */
class Reader implements AsyncIterableIterator<SandboxEvent> {
  readonly #queue: SandboxEvent[] = [];
  readonly #onRoom: (ended: boolean) => void;
  #wanting: ((result: IteratorResult<SandboxEvent>) => void)[] = [];
  #ended = false;

  constructor(onRoom: (ended: boolean) => void) {
    this.#onRoom = onRoom;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  put(event: SandboxEvent): void {
    const want = this.#wanting.shift();
    if (want) want({ done: false, value: event });
    else this.#queue.push(event);
  }

  end(): void {
    this.#ended = true;
    for (const want of this.#wanting) want({ done: true, value: undefined });
    this.#wanting = [];
  }

  next(): Promise<IteratorResult<SandboxEvent>> {
    const value = this.#queue.shift();
    if (value !== undefined) {
      if (this.#queue.length === backlog - 1) this.#onRoom(false);
      return Promise.resolve({ done: false, value });
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#wanting.push(resolve));
  }

  return(): Promise<IteratorResult<SandboxEvent>> {
    this.end();
    this.#queue.length = 0;
    this.#onRoom(true);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
