// The owner's own streams, as a command expects what it inherits.
import process from "node:process";
import type { RunOptions, SpawnOptions } from "@nono/core";

/** What Node's streams over pipes and sockets have, and its types do not tell. */
type Shared = (NodeJS.ReadStream | NodeJS.WriteStream) & {
  readonly _handle?: { setBlocking?(isBlocking: boolean): unknown } | null;
};

/**
 * Makes what a command is to share with its owner blocking again. Importing `node:process` is enough for Node to
 * make all three non-blocking (libuv, uv_pipe_open), which holds for everyone who has the same pipe: a command
 * whose reader is slow would be told EAGAIN. Node's own child_process undoes it as well (uv__process_child_init).
 */
export function shareStdio({ stdio, stdin, stdout, stderr }: SpawnOptions & RunOptions): void {
  const given = [stdio ?? [stdin, stdout, stderr]].flat();
  const all = given.length === 1 ? [given[0], given[0], given[0]] : given;
  const shared = new Set(all.map((option, fd) => (option === "inherit" ? fd : option)));
  const streams = [process.stdin, process.stdout, process.stderr] as readonly Shared[];
  for (const [fd, stream] of streams.entries()) {
    if (shared.has(fd)) stream._handle?.setBlocking?.(true);
  }
}
