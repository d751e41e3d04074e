// One run of the command under one policy: what it was refused, and what it used.
import {
  InterruptedError,
  type Operation,
  type Path,
  type SandboxEvent,
  type StdioOption,
} from "@nono/core";
import type { GateEvent } from "@nono/proxy";
import type { Policy } from "../policy/policy.ts";
import { Sandbox, type SandboxSettings } from "../sandbox.ts";
import { withoutUndefined } from "../without-undefined.ts";

/** What a round is run with. */
export interface RoundOptions extends Pick<SandboxSettings, "tier" | "audit"> {
  readonly workspace: string;
  /** Milliseconds after which the command is ended; what it did until then counts. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
  readonly stdout?: StdioOption;
  readonly stderr?: StdioOption;
}

/** Something that a command tried, in the terms of a policy. */
export interface Attempt {
  readonly kind: "read" | "write" | "exec" | "socket" | "host" | "other";
  /** A canonical path, a host with or without a port, or what there is to say of it. */
  readonly value: string;
  /** The path as the command named it. */
  readonly asked?: string;
  /** Which rule refused it; undefined: nothing did. */
  readonly refusedBy?: "not-granted" | "denied" | "protected" | "system-call";
  readonly rule?: string;
}

/** What became of a round. */
export interface Round {
  /** Each once. */
  readonly refused: readonly Attempt[];
  readonly used: readonly Attempt[];
  /** Whether some of what was refused is missing: it came faster than it could be taken. */
  readonly isPartial: boolean;
  /** Null: a signal ended it, or the time was over. */
  readonly exitCode: number | null;
}

/** A host that no one has (RFC 2606): with it on the list there is a gate, which hears of the others. */
export const nobody = "nono-learn.invalid:443";

/** Runs it under all that `policies` grant. */
export async function runRound(
  policies: readonly Policy[],
  argv: readonly string[],
  options: RoundOptions,
): Promise<Round> {
  const { workspace, timeout, signal, stdout = "ignore", stderr = "ignore" } = options;
  const { tier, audit } = options;
  await using sandbox = new Sandbox({ ...withoutUndefined({ tier, audit }), observe: "all" });
  for (const policy of policies) sandbox.use(policy, { workspace });
  const [refused, used] = [new Attempts(), new Attempts()];
  const names = new Map<string, string>();
  let isPartial = false;
  sandbox.events.on("gap", ({ denied }) => (isPartial ||= denied > 0));
  sandbox.events.on("event", (event) => {
    const attempt = attemptOf(event, names);
    if (attempt) (attempt.refusedBy === undefined ? used : refused).add(attempt);
  });
  sandbox.events.on("gate", (event) => {
    noteAnswers(event, names);
    const attempt = hostOf(event);
    if (attempt) (event.decision === "deny" ? refused : used).add(attempt);
  });
  const exitCode = await sandbox
    .run(argv, {
      cwd: workspace,
      stdout,
      stderr,
      ...withoutUndefined({ timeout, signal }),
    })
    .then((result) => result.exitCode)
    .catch((error: unknown) => {
      if (error instanceof InterruptedError && error.code === "ERR_NONO_TIMEOUT") return null;
      throw error;
    });
  await sandbox.close();
  return { refused: refused.all, used: used.all, isPartial, exitCode };
}

class Attempts {
  readonly #byName = new Map<string, Attempt>();

  get all(): readonly Attempt[] {
    return [...this.#byName.values()];
  }

  add(attempt: Attempt): void {
    const name = `${attempt.kind} ${attempt.value}`;
    if (!this.#byName.has(name)) this.#byName.set(name, attempt);
  }
}

const kinds: { readonly [O in Operation]?: Attempt["kind"] } = { read: "read", execute: "exec" };

function attemptOf(event: SandboxEvent, names: ReadonlyMap<string, string>): Attempt | undefined {
  const refusal = refusalOf(event);
  if (event.operation === "system-call") {
    return { kind: "other", value: event.systemCall ?? "", ...refusal };
  }
  if (event.operation === "listen") return undefined; // it takes what bind takes
  if (event.operation === "connect" || event.operation === "bind") {
    return socketOf(event, names, refusal);
  }
  const { path, asked, to, suggestion } = event as SandboxEvent & {
    readonly suggestion?: { readonly value: Path };
  };
  if (path === undefined) return undefined;
  const kind = kinds[event.operation] ?? "write";
  // What does not exist can't be granted: the suggestion names its directory.
  const isGrantable = kind === "write" && refusal?.refusedBy === "not-granted" && suggestion;
  const value = text(isGrantable ? suggestion.value : (to ?? path));
  // A pipe, say, that was opened by its descriptor: no path leads there.
  if (!value.startsWith("/")) return refusal && { kind: "other", value, ...refusal };
  return { kind, value, ...(asked !== undefined && { asked: text(asked) }), ...refusal };
}

function socketOf(
  { operation, path, address = "" }: SandboxEvent,
  names: ReadonlyMap<string, string>,
  refusal: Pick<Attempt, "refusedBy" | "rule"> | undefined,
): Attempt | undefined {
  const [, host = "", port = ""] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  if (operation === "bind") {
    return refusal && { kind: "other", value: `bind ${address || text(path ?? "")}`, ...refusal };
  }
  if (path !== undefined || address.startsWith("/")) {
    return { kind: "socket", value: path === undefined ? address : text(path), ...refusal };
  }
  // Which of the others are let through, the gate tells.
  if (refusal === undefined) return undefined;
  return { kind: "host", value: `${names.get(host) ?? host}:${port}`, ...refusal };
}

function refusalOf(event: SandboxEvent): Pick<Attempt, "refusedBy" | "rule"> | undefined {
  if (event.verdict === "allowed") return undefined;
  const { reason, rule } = event as SandboxEvent & {
    readonly reason: "not-granted" | "denied" | "protected";
    readonly rule: string;
  };
  return { refusedBy: event.operation === "system-call" ? "system-call" : reason, rule };
}

/** Addresses that stand for names, so that connections to other ports than the gate's have a name. */
function noteAnswers({ type, object }: GateEvent, names: Map<string, string>): void {
  if (type !== "net.dns" || !("answers" in object)) return;
  for (const address of object.answers ?? []) names.set(address, object.name);
}

function hostOf({ type, phase, decision, object, rule }: GateEvent): Attempt | undefined {
  const reason = "reason" in object ? object.reason : undefined;
  const refusal =
    decision === "deny"
      ? { refusedBy: rule ? ("denied" as const) : ("not-granted" as const), rule: reason ?? "" }
      : {};
  if (type === "net.dns" && decision === "deny" && "qtype" in object) {
    return { kind: "host", value: object.name, ...refusal };
  }
  if ((type !== "net.connect" && type !== "http.request") || phase === "result") return undefined;
  if (!("port" in object)) return undefined;
  const host = object.host ?? ("address" in object ? object.address : undefined) ?? "";
  return { kind: "host", value: `${host}:${object.port}`, ...refusal };
}

function text(path: Path): string {
  return typeof path === "string" ? path : Buffer.from(path).toString();
}
