// The record of a sandbox: one log per sandbox below the host's ledger. @nono/audit is loaded only
// when a record is kept.
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import path from "node:path";
import type { Capabilities, Exit, Path, SandboxEvent, SpawnOptions } from "@nono/core";
import type { Anchor, AuditLog, AuditLogOptions, NonoEvent } from "@nono/audit";
import type { GateEvent } from "@nono/proxy";
import type { SnapshotEvent } from "@nono/rollback";
import { attemptEntry } from "./attempts.ts";
import { keepOutOfReach, makeDirectory, stateDirectory } from "./state.ts";
import { currentTrace, type TraceIds } from "./telemetry.ts";

/** How a sandbox's record is kept. */
export interface AuditSettings extends Pick<AuditLogOptions, "onFailure" | "redact"> {
  /**
   * Holds the host's ledger, its key, and a log for each sandbox. Never within the commands' reach.
   * Default: `audit` in `$XDG_STATE_HOME/nono`.
   */
  readonly dir?: string;
  /** Who else sees the ledger's heads. Default: nobody; nothing leaves the machine. */
  readonly anchors?: readonly Anchor[];
}

/** Where a run is on record. */
export interface AuditRecord {
  /** The log's directory: `nono audit show DIR`, `nono audit verify DIR`. */
  readonly dir: string;
  /** The log's head after the run: how many entries, and the hash over all of them. */
  readonly head: {
    /** Entries. */
    readonly size: number;
    /** RFC 6962 root hash, in base64. */
    readonly root: string;
  };
}

/** Where the ledger and the logs are, in the directory of the records. */
export function recordPlaces(dir: string = path.join(stateDirectory(), "audit")): {
  readonly ledger: string;
  readonly sessions: string;
} {
  return { ledger: path.join(dir, "ledger"), sessions: path.join(dir, "sessions") };
}

/** The file of the ledger's key. */
const keyName = "ledger.key";

/** What the ledger signs as. */
function hostOrigin(): string {
  const name = hostname()
    .toLowerCase()
    .replaceAll(/[^a-z0-9.-]/g, "-");
  return `nono.local/${name}`;
}

/** The verifier key of this host's ledger; undefined before the first run. */
export async function ledgerVkey(
  dir: string = path.join(stateDirectory(), "audit"),
): Promise<string | undefined> {
  const file = path.join(dir, keyName);
  if (!existsSync(file)) return undefined;
  const { keyFileSigner } = await import("@nono/audit");
  return keyFileSigner(file, hostOrigin()).vkey;
}

/** The open record of one sandbox. */
export class RunRecord {
  readonly #log: AuditLog;

  private constructor(log: AuditLog) {
    this.#log = log;
  }

  /** Opens it. Fails closed: a sandbox that can't be put on record is not built. */
  static async open(settings: AuditSettings, capabilities: Capabilities): Promise<RunRecord> {
    const { dir = path.join(stateDirectory(), "audit"), anchors = [], ...options } = settings;
    const granted = [...(capabilities.read ?? []), ...(capabilities.write ?? [])];
    keepOutOfReach(dir, granted, "the record");
    const places = recordPlaces(dir);
    const { AuditError, HostLedger, keyFileSigner, openAuditLog } = await import("@nono/audit");
    try {
      makeDirectory(places.sessions);
    } catch (cause) {
      const message = `no record can be kept in ${dir} (${(cause as Error).message}). Set XDG_STATE_HOME to a directory of yours, or do without (--no-audit, audit: false)`;
      throw new AuditError("ERR_NONO_AUDIT_WRITE", message, { cause, value: dir });
    }
    const host = hostOrigin();
    const signer = keyFileSigner(path.join(dir, keyName), host);
    const ledger = new HostLedger({ dir: places.ledger, origin: host, signer, anchors });
    const session = randomUUID();
    const log = await openAuditLog({
      ...options,
      dir: path.join(places.sessions, session),
      origin: `${host}/session/${session}`,
      ledger,
    });
    return new RunRecord(log);
  }

  /** For the gate and for checkpoints, which record by themselves. */
  async record(
    event: (NonoEvent | GateEvent | SnapshotEvent) & { readonly trace?: TraceIds },
  ): Promise<{ readonly seq: number }> {
    const trace = event.trace ?? (await currentTrace());
    // Each layer declares its own part of the one union; the log checks every event against the
    // whole of it.
    return this.#log.record({ ...event, ...(trace && { trace }) } as NonoEvent);
  }

  /** What a command attempted; it has happened already, so nobody waits. */
  attempt(event: SandboxEvent): void {
    this.#log.recordAndForget(attemptEntry(event));
  }

  /**
   * Puts a command on record: that it is to run, durably, before it is started; then how that went.
   *
   * @param start Starts it.
   * @param exited Its end.
   */
  async command<T>(
    argv: readonly Path[],
    options: Pick<SpawnOptions, "cwd">,
    start: () => Promise<T>,
    exited: (started: T) => Promise<Exit>,
  ): Promise<T> {
    const [program = ""] = argv;
    const object = {
      path: program,
      argv,
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    };
    const type = "process.exec";
    const intent = { type, phase: "intent", decision: "allow", object } as const;
    const { seq: ref } = await this.record(intent);
    let started: T;
    try {
      started = await start();
    } catch (error) {
      const code = (error as { code?: string }).code ?? "ERR_NONO_INTERNAL";
      const decision = code === "ERR_NONO_EXEC_NOT_ALLOWED" ? "deny" : "error";
      await this.record({
        type,
        phase: "result",
        decision,
        ref,
        object,
        outcome: { errno: code },
      });
      throw error;
    }
    await this.record({ type, phase: "result", decision: "allow", ref, object });
    exited(started).then(
      (exit) => this.#exit(exit),
      () => undefined, // it is on record that it did not start
    );
    return started;
  }

  /** The log's head now, signed and on disk. */
  async head(): Promise<AuditRecord> {
    const { size, root } = await this.#log.checkpoint();
    return { dir: this.#log.dir, head: { size, root: Buffer.from(root).toString("base64") } };
  }

  /**
   * Ends the log with a signed head, on record in the ledger, and shows that to the anchors. One that
   * can't be reached now is tried again with the next log.
   */
  async close(reason: string): Promise<void> {
    await this.#log.close(reason);
    await this.#log.anchored;
  }

  #exit({ exitCode, signal }: Exit): void {
    this.#log.recordAndForget({
      type: "process.exit",
      phase: "event",
      decision: "allow",
      object: {
        ...(exitCode !== null && { code: exitCode }),
        ...(signal !== null && { signal }),
      },
    });
  }
}
