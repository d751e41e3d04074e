// What a command has been found to need, and the policy that this makes.
import { existsSync, realpathSync, statSync } from "node:fs";
import path from "node:path";
import { isExecutable } from "../policy/host.ts";
import { nameOf, policyPath } from "../policy/variables.ts";
import { isBelow } from "../state.ts";
import { isForInternet } from "../violation.ts";
import type { Attempt } from "./attempts.ts";
import type { LearnablePolicy } from "./format.ts";
import { foldPaths, foldPrograms, foldWrites } from "./fold.ts";
import type { Never, RefusalReason } from "./never.ts";

/** How grants are judged. */
export interface GrantRules {
  readonly never: Never;
  readonly workspace: string;
  /** Where bare names of programs are looked up. */
  readonly searchPath: readonly string[];
  /** Whether hosts are granted, too. */
  readonly grantsHosts: boolean;
}

type Kind = "read" | "write" | "exec" | "socket" | "host" | "scratch";

interface Need {
  readonly kind: Kind;
  readonly value: string;
}

/** Where programs make temporary files when nothing else is said. */
const temporary = new Set(["/tmp", "/var/tmp"]);
const scratch: Need = { kind: "scratch", value: "" };

/** The needs found so far. Immutable. */
export class Grants {
  readonly #rules: GrantRules;
  readonly #needs: ReadonlyMap<string, Need>;
  /** Programs by their canonical paths, as commands called them. */
  readonly #names: ReadonlyMap<string, string>;

  constructor(
    rules: GrantRules,
    needs: Iterable<Need> = [],
    names: ReadonlyMap<string, string> = new Map(),
  ) {
    this.#rules = rules;
    this.#needs = new Map([...needs].map((need) => [keyOf(need), need]));
    this.#names = names;
  }

  /** With what `attempts` need, as far as it may be granted. */
  with(attempts: readonly Attempt[]): Grants {
    const names = new Map(this.#names);
    const added = attempts.flatMap((attempt): Need[] => {
      if (attempt.kind === "other" || this.refusal(attempt) !== undefined) return [];
      const value = this.#grantable(attempt);
      if (attempt.kind === "write" && temporary.has(value)) return [scratch];
      if (attempt.kind === "exec" && attempt.asked) names.set(value, path.basename(attempt.asked));
      return [{ kind: attempt.kind, value }];
    });
    return new Grants(this.#rules, [...this.#needs.values(), ...added], names);
  }

  /** Only the grants that `used` attempts fall under. */
  usedBy(used: readonly Attempt[]): Grants {
    const isUsed = ({ kind, value }: Need): boolean =>
      kind === "scratch" ||
      value === this.#rules.workspace ||
      used.some((attempt) =>
        kind === "host" || kind === "socket"
          ? attempt.kind === kind && (attempt.value === value || hostPart(attempt.value) === value)
          : serves(kind, attempt.kind) && isBelow(attempt.value, value),
      );
    const kept = [...this.#needs.values()].filter(isUsed).flatMap((need): Need[] => {
      if (need.kind !== "host" || need.value.includes(":")) return [need];
      // Asked for by name alone; by now it is known on which ports.
      return used
        .filter(({ kind, value }) => kind === "host" && hostPart(value) === need.value)
        .map(({ value }) => ({ kind: "host", value }));
    });
    return new Grants(this.#rules, kept, this.#names);
  }

  /**
   * With the workspace as little writable as `used` attempts need it: its directories that were written
   * to, if nothing else of it was. It stays readable: the command begins there.
   */
  withWorkspaceFor(used: readonly Attempt[]): Grants {
    const { workspace } = this.#rules;
    const whole: Need = { kind: "write", value: workspace };
    if (!this.#needs.has(keyOf(whole))) return this;
    const written = used.filter(({ kind, value }) => kind === "write" && isBelow(value, workspace));
    const parts = new Set(written.map(({ value }) => partOf(workspace, value)));
    const needs: Need[] = [...parts].map((value) => ({ kind: "write", value }));
    needs.push({ kind: "read", value: workspace });
    const others = [...this.#needs.values()].filter((need) => keyOf(need) !== keyOf(whole));
    return new Grants(this.#rules, [...others, ...needs], this.#names);
  }

  /** Without the permission to write at `name`, or below it. */
  withoutWriting(name: string): Grants {
    const isWanted = ({ kind, value }: Need): boolean => kind !== "write" || !isBelow(value, name);
    const kept = [...this.#needs.values()].filter(isWanted);
    return new Grants(this.#rules, kept, this.#names);
  }

  /** Why an attempt's need is not granted; undefined: it is. */
  refusal(attempt: Attempt): RefusalReason | undefined {
    if (attempt.refusedBy === "denied" || attempt.refusedBy === "protected") {
      return attempt.refusedBy;
    }
    const { never, grantsHosts } = this.#rules;
    const value = this.#grantable(attempt);
    switch (attempt.kind) {
      case "read":
        return never.reading(value);
      case "write":
        if (temporary.has(value)) return this.#has(scratch) ? "too-broad" : undefined;
        return never.writing(value);
      case "exec":
        return existsSync(value) ? undefined : "volatile";
      case "socket":
        return never.connecting(value);
      case "host":
        return grantsHosts ? undefined : "network";
      default:
        return value.startsWith("bind ") || isForInternet(value) ? "network" : "system-call";
    }
  }

  /** Whether there is nothing here that is not in `others`. */
  isIn(others: Grants): boolean {
    return [...this.#needs.keys()].every((name) => others.#needs.has(name));
  }

  /** What may be written. */
  get writes(): string[] {
    return foldWrites(this.#values("write"), this.#rules.workspace, this.#rules.never);
  }

  /** The hosts among them. */
  get hosts(): string[] {
    return this.#values("host").toSorted();
  }

  /** `base` with them. */
  addTo(base: LearnablePolicy): LearnablePolicy {
    const { never, searchPath } = this.#rules;
    const given = { read: base.read ?? [], write: base.write ?? [], exec: base.exec ?? [] };
    const write = outside(given.write, this.writes);
    const exec = foldPrograms(this.#values("exec"), searchPath, never);
    const covered = [...[...given.read, ...given.write].map(nameOf), ...write, ...exec];
    const hosts = [...(base.network?.allow ?? []), ...this.hosts];
    const extended = [base.extends ?? [], this.#has(scratch) ? "scratch" : []].flat();
    return withoutEmpty({
      ...base,
      extends: [...new Set(extended)],
      read: [...given.read, ...said(outside(covered, foldPaths(this.#values("read"), never)))],
      write: [...given.write, ...said(write)],
      exec: [...new Set([...given.exec, ...said(exec.map((name) => this.#nameOf(name)))])],
      unixSockets: [...new Set([...(base.unixSockets ?? []), ...said(this.#values("socket"))])],
      ...(hosts.length > 0 && { network: { allow: [...new Set(hosts)] } }),
    });
  }

  #has(need: Need): boolean {
    return this.#needs.has(keyOf(need));
  }

  #values(kind: Kind): string[] {
    return [...this.#needs.values()].filter((need) => need.kind === kind).map(({ value }) => value);
  }

  /** What commands make themselves does not exist when the next one begins: its directory does. */
  #grantable({ kind, value }: Attempt): string {
    const isMade = kind === "write" || (kind === "exec" && isBelow(value, this.#rules.workspace));
    if (!isMade) return value;
    let existing = value;
    while (!existsSync(existing)) existing = path.dirname(existing);
    return existing;
  }

  /** A bare name, if looking that up finds this program: it is the same on other machines. */
  #nameOf(program: string): string {
    for (const name of [this.#names.get(program), path.basename(program)]) {
      if (name === undefined) continue;
      const found = this.#rules.searchPath.map((at) => path.join(at, name)).find(isExecutable);
      if (found !== undefined && realpathSync(found) === program) return name;
    }
    return program;
  }
}

function said(names: readonly string[]): string[] {
  return names.map(policyPath);
}

function keyOf({ kind, value }: Need): string {
  return `${kind} ${value}`;
}

/** Those of `names` that are below none of `covered`. */
function outside(covered: readonly string[], names: readonly string[]): string[] {
  return names.filter((name) => !covered.some((outer) => isBelow(name, outer)));
}

/** The directory in the workspace that a path is in; the workspace, if it is in none that is there. */
function partOf(workspace: string, name: string): string {
  const [first = ""] = path.relative(workspace, name).split("/");
  const part = path.join(workspace, first);
  return statSync(part, { throwIfNoEntry: false })?.isDirectory() === true ? part : workspace;
}

/** Whoever writes or executes may read; and of a script that is executed, only the reading is told. */
function serves(grant: Kind, attempt: Attempt["kind"]): boolean {
  return grant === attempt || (attempt === "read" && (grant === "write" || grant === "exec"));
}

function hostPart(host: string): string {
  return host.replace(/:\d+$/, "");
}

function withoutEmpty(policy: LearnablePolicy): LearnablePolicy {
  const entries = Object.entries(policy).filter(
    ([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0),
  );
  return Object.fromEntries(entries);
}
