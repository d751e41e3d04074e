// Searches the memory, environment and command line of live processes for bytes.
import { closeSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";

/** The numbers of all processes whose command line holds `marker`, and of all below them. */
export function processTree(marker: string): number[] {
  const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const parents = new Map<number, number>();
  const found = new Set<number>();
  for (const name of all) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
      if (readFileSync(`/proc/${name}/cmdline`, "latin1").includes(marker)) found.add(Number(name));
    } catch {
      // It ended meanwhile.
    }
  }
  for (let grew = true; grew;) {
    const size = found.size;
    for (const [pid, parent] of parents) if (found.has(parent)) found.add(pid);
    grew = found.size > size;
  }
  return [...found];
}

/** How often `bytes` occurs in a process: in its readable memory and in its environment block. */
export function occurrences(pid: number, bytes: string): number {
  let count = occurrencesIn(readFileSync(`/proc/${pid}/environ`), bytes);
  const memory = openSync(`/proc/${pid}/mem`, "r");
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
      const [, start, end, rights, name = ""] =
        /^(\w+)-(\w+) (\S+) \S+ \S+ \S+\s*(.*)$/.exec(line) ?? [];
      if (start === undefined || end === undefined || !rights?.startsWith("r")) continue;
      if (name === "[vvar]" || name === "[vvar_vclock]" || name === "[vsyscall]") continue;
      const from = BigInt(`0x${start}`);
      const region = Buffer.alloc(Number(BigInt(`0x${end}`) - from));
      const length = readSync(memory, region, 0, region.length, from as unknown as number);
      count += occurrencesIn(region.subarray(0, length), bytes);
    }
  } finally {
    closeSync(memory);
  }
  return count;
}

function occurrencesIn(where: Buffer, bytes: string): number {
  let count = 0;
  for (let at = where.indexOf(bytes); at !== -1; at = where.indexOf(bytes, at + 1)) count += 1;
  return count;
}
