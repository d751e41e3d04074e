import type { Readable } from "node:stream";

/**
 * Calls `onTimeout` unless the server has begun its answer `timeout` milliseconds after the last byte it was sent: an
 * upload may take as long as it needs. Returns what stops the wait. The body must be flowing already.
 */
export function awaitAnswer(
  body: Readable | undefined,
  timeout: number,
  onTimeout: (error: Error) => void,
): () => void {
  const timer = setTimeout(() => {
    stop();
    onTimeout(Object.assign(new Error("no response header"), { code: "UND_ERR_HEADERS_TIMEOUT" }));
  }, timeout);
  const onData = (): void => void timer.refresh();
  const stop = (): void => {
    clearTimeout(timer);
    body?.off("data", onData);
  };
  body?.on("data", onData);
  return stop;
}
