import process from "node:process";

/** Shorter work is done before anyone wonders. */
const patience = 700;

/** Says on a terminal what takes so long, and for how long, until `work` is done. */
export async function withProgress<T>(what: string, work: Promise<T>): Promise<T> {
  const { stderr } = process;
  if (!stderr.isTTY) return work;
  const begin = performance.now();
  const timer = setInterval(() => {
    const seconds = Math.round((performance.now() - begin) / 1000);
    stderr.write(`\r\u001B[Knono: ${what}: ${seconds} s`);
  }, patience);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    if (performance.now() - begin >= patience) stderr.write("\r\u001B[K");
  }
}
