// Which policy a command needs, found by running it.
import { existsSync, realpathSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { ArgumentError, NonoError } from "@nono/core";
import type { Policy } from "../policy/policy.ts";
import { resolvePolicy } from "../policy/resolve.ts";
import { Sandbox } from "../sandbox.ts";
import { isBelow } from "../state.ts";
import { withoutUndefined } from "../without-undefined.ts";
import { type Attempt, nobody, type Round, type RoundOptions, runRound } from "./attempts.ts";
import { allButSecrets } from "./permissive.ts";
import type { LearnablePolicy } from "./format.ts";
import { Grants } from "./grants.ts";
import { Never, type RefusalReason } from "./never.ts";
import { ThrowAway } from "./throw-away.ts";

/** Options of {@link learn}. */
export interface LearnOptions extends Omit<RoundOptions, "workspace"> {
  /** Where the command runs. Absolute. Default: the current directory. */
  readonly workspace?: string;
  /**
   * What is granted from the start, and part of the result. Unless it has `read` or `write`, the
   * workspace may be written to, and the result says how much of that was needed.
   */
  readonly base?: LearnablePolicy;
  /**
   * Lets the command, in the first round, read and execute everything but secrets, and makes the policy
   * of what it used: fewer rounds. Default: false, nothing is allowed before it was asked for.
   */
  readonly permissive?: boolean;
  /**
   * Lets the command reach the hosts that it asks for, from the round after. What it sends there can't be
   * taken back. Default: false, they are told in {@link LearnedPolicy.refused}.
   */
  readonly network?: boolean;
  /** How often the command is run at most. Default: 20. */
  readonly maxRounds?: number;
  /** Called after each round. */
  readonly onRound?: (round: LearningRound) => void;
}

/** How far learning has come. */
export interface LearningRound {
  /** From 1. */
  readonly round: number;
  /** What the command was refused in it, each attempt once. */
  readonly refused: number;
  /** The policy that it ran under. */
  readonly policy: LearnablePolicy;
}

/** What no learned policy grants, and the command attempted. */
export interface LearnedRefusal {
  readonly operation: Attempt["kind"];
  /** A path, a host, or a system call. */
  readonly value: string;
  /**
   * `"secret"`: it holds keys or tokens, or something below it does. `"too-broad"`: more than one program's, such as a home
   * directory. `"system"`: not for a command to change, or it starts by itself. `"control"`: a socket
   * that commands the machine or the user's keys. `"protected"`: programs outside take orders from it. `"denied"`:
   * the base policy denies it. `"volatile"`: another one in every run. `"not-undoable"`: it could not
   * be brought back. `"network"`: a host, or a server. `"system-call"`: no sandbox lets it. `"out-of-rounds"`: it would be
   * granted, but `maxRounds` have been run.
   */
  readonly why: RefusalReason | "out-of-rounds";
  /** The rule of the sandbox that refused it, in words. */
  readonly rule: string;
}

/** The result of {@link learn}. */
export interface LearnedPolicy {
  /** For {@link Sandbox.use}, and for {@link formatPolicy}. */
  readonly policy: LearnablePolicy;
  /** Whether the last run, under this policy, was refused nothing. */
  readonly complete: boolean;
  /** What the last run was refused. */
  readonly refused: readonly LearnedRefusal[];
  /** How often the command was run. */
  readonly rounds: number;
  /** Of the last run; null: a signal ended it, or the time was over. */
  readonly exitCode: number | null;
}

const defaultRounds = 20;
/** How often what lies beside nono's state may vanish before a sandbox is made of it. */
const mostVanished = 10;

/**
 * Finds the smallest readable policy under which a command is refused nothing that may be granted at
 * all. Runs it in a sandbox again and again, each time with what it was refused before, and undoes after
 * each run what it did to files. Never grants secrets, a home directory as a whole, or writing to the system.
 *
 * @param argv The program, a path or a name that is looked up in `PATH`; then its arguments. Stdin is
 *   empty.
 * @throws {@link ArgumentError} without a program, or without a round; the errors of {@link Sandbox.run}; `RollbackError` of
 *   `@nono/rollback` when the state of the workspace can't be kept or brought back.
 * @example
 * ```ts
 * const { policy, complete, refused } = await learn(["make", "test"], { workspace: "/workspace" });
 * const sandbox = new Sandbox().use(policy);
 * ```
 */
export async function learn(
  argv: readonly string[],
  options: LearnOptions = {},
): Promise<LearnedPolicy> {
  const [program = "", ...args] = argv;
  if (program === "") {
    throw new ArgumentError("ERR_NONO_INVALID_ARGV", "There is no command to learn from", {
      remedy: 'Give a program and its arguments, as in learn(["git", "status"]).',
    });
  }
  const { maxRounds = defaultRounds } = options;
  if (!Number.isInteger(maxRounds) || maxRounds < 1) {
    throw new ArgumentError("ERR_NONO_INVALID_OPTION", `maxRounds can't be ${maxRounds}`, {
      value: maxRounds,
      remedy: "Give a whole number from 1.",
    });
  }
  const workspace = realpathSync(options.workspace ?? process.cwd());
  const command = program.includes("/") ? path.resolve(workspace, program) : program;
  await using learner = new Learner([command, ...args], { ...options, workspace });
  // Awaited here: what is returned as a promise outlives the learner.
  return await learner.learn();
}

interface Settled {
  readonly grants: Grants;
  /** The last one, under these grants if they are settled. */
  readonly round: Round | undefined;
  /** Whether it was refused nothing that may be granted and is not. */
  readonly isSettled: boolean;
}

class Learner implements AsyncDisposable {
  readonly #argv: readonly string[];
  readonly #options: LearnOptions & { readonly workspace: string };
  readonly #base: LearnablePolicy;
  readonly #never: Never;
  readonly #throwAway = new ThrowAway();
  /** What can't be brought back, so that it is not granted. */
  readonly #lasting = new Set<string>();
  #asksForNetwork = false;
  #rounds = 0;

  constructor(argv: readonly string[], options: LearnOptions & { readonly workspace: string }) {
    this.#argv = argv;
    this.#options = options;
    const { base = {}, workspace } = options;
    this.#base = { ...base, exec: [...new Set([...(base.exec ?? []), ...argv.slice(0, 1)])] };
    this.#never = new Never(workspace);
  }

  async learn(): Promise<LearnedPolicy> {
    const found = await this.#settle(await this.#begin());
    const used = found.round?.used ?? [];
    const needed = found.grants.usedBy(used).withWorkspaceFor(used);
    // With less, something may turn out to be needed after all: then that is added again.
    const isSmaller = found.isSettled && !found.grants.isIn(needed);
    const smaller = isSmaller ? await this.#settle(needed) : found;
    return this.#result(smaller.isSettled ? smaller : found);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#throwAway[Symbol.asyncDispose]();
  }

  /** What is granted before the first round that counts. */
  async #begin(): Promise<Grants> {
    const { workspace, base = {}, network = false, permissive = false } = this.#options;
    const { env } = resolvePolicy(this.#base, { workspace });
    const searchPath = env.set["PATH"] ?? process.env["PATH"] ?? "";
    const rules = {
      never: this.#never,
      workspace,
      searchPath: searchPath.split(path.delimiter).filter((name) => path.isAbsolute(name)),
      grantsHosts: network,
    };
    const isUnsaid = base.read === undefined && base.write === undefined;
    const grants = new Grants(rules, isUnsaid ? [{ kind: "write", value: workspace }] : []);
    return permissive ? this.#withUsed(grants) : grants;
  }

  /** With what the command uses when it may read and execute everything but secrets. */
  async #withUsed(grants: Grants): Promise<Grants> {
    const { workspace, tier } = this.#options;
    const covered = await this.#covered(grants);
    const { refused, used } = await this.#runAllButSecrets(covered);
    const settings = { audit: false, ...withoutUndefined({ tier }) } as const;
    await using sandbox = new Sandbox(settings).use(grants.addTo(this.#base), { workspace });
    const lacking: Attempt[] = [];
    for (const attempt of used) {
      if (attempt.kind !== "read" && attempt.kind !== "exec") continue;
      const access = attempt.kind === "exec" ? "execute" : "read";
      const { allowed } = await sandbox.explain({ path: attempt.value, access });
      if (!allowed) lacking.push(attempt);
    }
    return covered.with([...refused, ...lacking]);
  }

  /** One round of all but secrets; what others delete before it begins is looked for once more without it. */
  async #runAllButSecrets(grants: Grants): Promise<Round> {
    for (let left = mostVanished; ; left -= 1) {
      try {
        return await this.#run(grants, allButSecrets(this.#never, this.#options.workspace));
      } catch (error) {
        if (left === 0 || !isVanished(error)) throw error;
        this.#rounds -= 1;
      }
    }
  }

  /** Runs the command until it is refused nothing more that may be granted. */
  async #settle(from: Grants): Promise<Settled> {
    const most = this.#options.maxRounds ?? defaultRounds;
    let settled: Settled = { grants: from, round: undefined, isSettled: false };
    while (!settled.isSettled && this.#rounds < most) {
      const asked = this.#asksForNetwork;
      const grants = await this.#covered(settled.grants);
      const round = await this.#run(grants);
      const next = grants.with(round.refused.filter((attempt) => !this.#isLasting(attempt)));
      const isSame = next.isIn(grants) && asked === this.#asksForNetwork;
      const isSettled = isSame && !round.isPartial;
      settled = { grants: next, round, isSettled };
    }
    return settled;
  }

  /** One round, of which nothing stays. */
  async #run(grants: Grants, ...more: readonly Policy[]): Promise<Round> {
    const policy = grants.addTo(this.#base);
    const probe: Policy[] = this.#asksForNetwork ? [{ network: { allow: [nobody] } }] : [];
    this.#rounds += 1;
    try {
      const round = await runRound([policy, ...more, ...probe], this.#argv, this.#options);
      this.#asksForNetwork ||= round.refused.some(asksForNetwork);
      this.#options.onRound?.({ round: this.#rounds, refused: round.refused.length, policy });
      return round;
    } finally {
      await this.#throwAway.bringBack();
    }
  }

  /** Those of `grants` under which nothing can be written that can't be brought back. */
  async #covered(grants: Grants): Promise<Grants> {
    const { workspace } = this.#options;
    const { write } = resolvePolicy(this.#base, { workspace });
    // Of what does not exist, the sandbox says so.
    for (const name of write.filter((at) => path.isAbsolute(at) && existsSync(at))) {
      await this.#throwAway.cover(realpathSync(name));
    }
    let covered = grants;
    for (const name of grants.writes) {
      try {
        await this.#throwAway.cover(name);
      } catch (error) {
        if (name === workspace) throw error;
        this.#lasting.add(name);
        covered = covered.withoutWriting(name);
      }
    }
    return covered;
  }

  #isLasting({ kind, value }: Attempt): boolean {
    return kind === "write" && [...this.#lasting].some((name) => isBelow(value, name));
  }

  #result({ grants, round, isSettled }: Settled): LearnedPolicy {
    const refused = (round?.refused ?? []).map((attempt): LearnedRefusal => {
      const why = this.#isLasting(attempt) ? "not-undoable" : grants.refusal(attempt);
      const { kind: operation, value, rule = "" } = attempt;
      return { operation, value, why: why ?? "out-of-rounds", rule };
    });
    const policy = grants.addTo(this.#base);
    const { network } = resolvePolicy(policy, { workspace: this.#options.workspace });
    // Where no host is granted, the network is blocked, which refuses the socket itself.
    if (this.#asksForNetwork && network === "blocked" && !refused.some(isOfNetwork)) {
      refused.push({
        operation: "other",
        value: "socket",
        why: "network",
        rule: "no host was asked for",
      });
    }
    return {
      policy,
      complete: isSettled && refused.length === 0,
      refused,
      rounds: this.#rounds,
      exitCode: round?.exitCode ?? null,
    };
  }
}

/** Whether a program asked for a network where there is none: the gate will say for which host. */
/** Whether a path that was there when it was listed is there no more. */
function isVanished(error: unknown): boolean {
  const codes = ["ERR_NONO_PATH_NOT_FOUND", "ERR_NONO_EXEC_NOT_FOUND"];
  return error instanceof NonoError && codes.includes(error.code);
}

function asksForNetwork({ kind: operation, value }: Attempt): boolean {
  return isOfNetwork({ operation, value });
}

function isOfNetwork({ operation, value }: Pick<LearnedRefusal, "operation" | "value">): boolean {
  return operation === "host" || (operation === "other" && value.startsWith("socket"));
}
