// What was refused, for whoever ran the command: in words, with the flag that would let it pass.
import process from "node:process";
import type { Suggestion } from "@nono/core";
import { shellWord } from "../shell-word.ts";
import { describeViolation, type PolicyViolation } from "../violation.ts";

const flags: Readonly<Record<Suggestion["capability"], string>> = {
  read: "--allow-read",
  write: "--allow-write",
  exec: "--allow-exec",
  unixSockets: "--allow-unix-socket",
  network: "--allow-net",
  deny: "without --deny",
};

/** A suggestion as a flag of `nono run`. */
export function flagFor({ capability, value }: Suggestion): string {
  return `${flags[capability]} ${shellWord(String(value))}`;
}

/** More would be no help. */
const told = 5;

/** Tells on stderr what may have made a command fail. */
export function tellRefusals(refused: readonly PolicyViolation[]): void {
  if (refused.length === 0) {
    tell("nothing was refused to it: the sandbox did not cause this failure, unless it misses");
    tell("a variable (--allow-env), a file in /tmp (--no-private-tmp) or a server on localhost");
    tell("(--allow-localhost) of yours");
    return;
  }
  const lines = new Map<string, number>();
  let attempts = 0;
  for (const violation of refused) {
    const line = describeViolation(violation, flagFor);
    const count = "count" in violation ? violation.count : 1;
    lines.set(line, (lines.get(line) ?? 0) + count);
    attempts += count;
  }
  tell(attempts === 1 ? "1 attempt was refused:" : `${attempts} attempts were refused:`);
  for (const [line, count] of [...lines].slice(0, told)) {
    tell(`  ${line}${count > 1 ? `, ${count} times` : ""}`);
  }
  if (lines.size > told) tell(`  and ${lines.size - told} more (nono audit show)`);
}

function tell(line: string): void {
  process.stderr.write(`nono: ${line}\n`);
}
