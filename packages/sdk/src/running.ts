// A sandbox at work: the kernel's part of it, with the gate in front of its network if it has one.
import {
  type Capabilities,
  createSandbox,
  type Sandbox as CoreSandbox,
  type SandboxOptions,
} from "@nono/core";
import type { Gate } from "@nono/proxy";
import { onRecord } from "./approvals.ts";
import type { RunRecord } from "./audit.ts";
import type { Declared } from "./declaration.ts";
import type { SandboxEmitter } from "./events.ts";
import { gateSink } from "./gate-sink.ts";
import { type GateViolation, gateViolation, type PolicyViolation } from "./violation.ts";
import { withoutUndefined } from "./without-undefined.ts";

/** Who is told what happens. */
export interface Observers {
  readonly events: SandboxEmitter;
  readonly record: RunRecord | undefined;
  /** Whether reads that were allowed are put on record: there are very many. */
  readonly recordsReads: boolean;
}

/** What a sandbox consists of while commands can run in it. */
export class Running {
  readonly core: CoreSandbox;
  readonly gate: Gate | undefined;

  private constructor(core: CoreSandbox, { events, record, recordsReads }: Observers, gate?: Gate) {
    this.core = core;
    this.gate = gate;
    events.follow(core.events);
    if (!record) return;
    core.events.on("event", (event) => {
      const isPlainRead = event.operation === "read" && event.verdict === "allowed";
      if (!isPlainRead || recordsReads) record.attempt(event);
    });
  }

  /** Builds it. The gate, if there is one, serves before the first command can run. */
  static async start(
    { capabilities, network, allowDegraded }: Declared,
    options: SandboxOptions,
    observers: Observers,
  ): Promise<Running> {
    const { tier, observe = "all", approvalTimeout, mounts } = options;
    const { allowDegraded: accepted = [] } = options;
    const { record } = observers;
    const onRequest =
      options.onRequest && record ? onRecord(options.onRequest, record) : options.onRequest;
    const create = (granted: Capabilities): Promise<CoreSandbox> =>
      createSandbox(granted, {
        ...withoutUndefined({ tier, observe, approvalTimeout, mounts, onRequest }),
        allowDegraded: [...accepted, ...allowDegraded],
      });
    if (!network.needsGate) return new Running(await create(capabilities), observers);

    const gate = await network.createGate(await gateSink(record), (event) =>
      observers.events.emit("gate", event),
    );
    try {
      const core = await create(network.withGate(capabilities, gate));
      await gate.serve(core.takeListeners());
      return new Running(core, observers, gate);
    } catch (error) {
      await gate.close();
      throw error;
    }
  }

  /** What the gate has refused since a time, in milliseconds since 1970. */
  refusedSince(time: number): GateViolation[] {
    const refused = this.gate?.violations ?? [];
    return refused.filter((violation) => violation.time >= time).map(gateViolation);
  }

  /** Everything that was refused. */
  violations(): PolicyViolation[] {
    return [...this.core.events.violations, ...this.refusedSince(0)];
  }

  /** Kills every process inside, then closes the gate. */
  async stop(): Promise<void> {
    await this.core.close();
    await this.gate?.close();
  }
}
