import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";

/** Pids of all processes on this machine whose command line holds `marker`. */
export function processesWith(marker: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && read(`/proc/${pid}/cmdline`).includes(marker));
}

/** Children of this process that have ended and were not reaped. */
export function zombies(): string[] {
  return childrenOf(process.pid).filter((pid) => / Z /.test(read(`/proc/${pid}/stat`)));
}

export function childrenOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`)
    .flatMap((task) => read(`/proc/${pid}/task/${task}/children`).split(" "))
    .filter((child) => child !== "");
}

/** The open descriptors of this process, and what they are. */
export function openFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [`${fd} -> ${readlinkSync(`/proc/self/fd/${fd}`)}`];
    } catch {
      return []; // the one that the listing itself used
    }
  });
}

/** Waits until `holds`, for 5 seconds at most; returns whether it came to hold. */
export async function eventually(holds: () => boolean): Promise<boolean> {
  for (let waited = 0; waited < 5000; waited += 10) {
    if (holds()) return true;
    await delay(10);
  }
  return holds();
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // the process has gone
  }
}
