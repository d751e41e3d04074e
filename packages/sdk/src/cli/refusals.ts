// What was refused, for whoever ran the command: in words, with the flag that would let it pass.
import type { Exit, Suggestion } from "@nono/core";
import type { LearnedRefusal } from "../learn/learn.ts";
import { Never } from "../learn/never.ts";
import { shellWord } from "../shell-word.ts";
import {
  describeViolation,
  isAboutProcess,
  isForInternet,
  type PolicyViolation,
  suggestionFor,
  wouldPass,
} from "../violation.ts";
import { tell } from "./output.ts";

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

/** Why something should not be granted. */
export const reasons: Readonly<Record<LearnedRefusal["why"], string>> = {
  secret: "it is, or holds, a secret",
  "too-broad":
    "more than this command's own is there; make a directory for it first, if it needs one",
  system: "it belongs to the system, or starts by itself",
  control: "this socket commands the machine, or the user's keys",
  protected: "programs outside take orders from it",
  denied: "the policy that was given denies it",
  volatile: "it is another one in every run",
  "not-undoable": "what is written there could not be undone",
  network: "learn with --network, or grant it with --allow-net",
  "system-call": "no sandbox lets it through",
  "out-of-rounds": "it would be, with more --rounds",
};

/** The flag that would let it pass, or why nobody should allow it; undefined: there is nothing to say. */
export function advice(violation: PolicyViolation, never: Never): string | undefined {
  const suggestion = suggestionFor(violation);
  if (isAboutProcess(violation)) return "the tier flat does not show it";
  if (suggestion === undefined) {
    if ("systemCall" in violation && isForInternet(violation.systemCall ?? ""))
      return "the network is closed; --allow-net with a host opens it to that";
    const isAboutPath = "path" in violation && violation.reason === "not-granted";
    return isAboutPath ? "nothing narrow enough to be allowed would let it pass" : undefined;
  }
  // Then the rule has said why.
  if ("reason" in violation && violation.reason === "protected") return "better not allowed";
  const why = never.granting(suggestion);
  if (why !== undefined) return `better not allowed: ${reasons[why]}`;
  return wouldPass({ ...suggestion, call: flagFor(suggestion) });
}

/** More would be no help. */
const told = 5;

/** What is told on stderr about a command that has ended: what was refused to it, and whether that is why. */
export type Epilogue = (
  refused: readonly PolicyViolation[],
  workspace: string,
  exit: Pick<Exit, "exitCode">,
) => void;

/** Tells what may have made a command fail; nothing about one that has not. */
export const explainFailure: Epilogue = (refused, workspace, { exitCode }) => {
  if (exitCode === 0) return;
  if (refused.length > 0) return tellRefusals(refused, workspace);
  // Whoever has sent a signal knows why it ended.
  if (exitCode === null) return;
  tell("nothing was refused to it: the sandbox did not cause this failure, unless it misses");
  tell("a variable (--allow-env), a file in /tmp (--no-private-tmp) or a server on localhost");
  tell("(--allow-localhost) of yours");
};

/** Tells what was refused. */
export function tellRefusals(refused: readonly PolicyViolation[], workspace: string): void {
  if (refused.length === 0) return;
  const never = new Never(workspace);
  const lines = new Map<string, number>();
  let attempts = 0;
  for (const violation of refused.toSorted((one, other) => weight(other) - weight(one))) {
    const line = describeViolation(violation, (refusal) => advice(refusal, never));
    const count = "count" in violation ? violation.count : 1;
    lines.set(line, (lines.get(line) ?? 0) + count);
    attempts += count;
  }
  tell(attempts === 1 ? "1 attempt was refused:" : `${attempts} attempts were refused:`);
  for (const [line, count] of [...lines].slice(0, told)) {
    tell(`  ${line}${count > 1 ? `, ${count} times` : ""}`);
  }
  if (lines.size > told) tell(`  and ${lines.size - told} more (nono audit show)`);
  if (refused.every(isAboutProcess)) {
    tell("Programs can do without it, as a rule. The tier namespaces shows it: nono doctor says");
    tell("what that needs here");
  }
  const shim = refused.map(shimOf).find((path) => path !== undefined);
  if (shim === undefined) return;
  tell(`${shim} is a script that chooses a program. Name the program itself,`);
  tell("or use a preset that finds it (nono policy list), such as --policy python");
}

/** The gate's first: they are few, and many a program reads what it can do without. */
function weight(violation: PolicyViolation): number {
  if (violation.layer === "gate") return 1;
  return isAboutProcess(violation) ? -1 : 0;
}

/** The script of a version manager (pyenv, asdf, rbenv, mise) that could not go on to the real program. */
function shimOf(violation: PolicyViolation): string | undefined {
  if (violation.layer === "gate" || violation.operation !== "execute") return undefined;
  return violation.process.arguments.map(String).find((word) => /\/shims\/[^/]+$/.test(word));
}
