// A sandbox at work: the kernel's part of it, with the gate in front of its network if it has one.
import {
  type Capabilities,
  createSandbox,
  type Sandbox as CoreSandbox,
  type SandboxOptions,
} from "@nono/core";
import type { Gate } from "@nono/proxy";
import type { RunRecord } from "./audit.ts";
import type { Declared } from "./declaration.ts";
import { gateSink } from "./gate-sink.ts";

/** What a sandbox consists of while commands can run in it. */
export class Running {
  readonly core: CoreSandbox;
  readonly #gate: Gate | undefined;

  private constructor(core: CoreSandbox, gate?: Gate) {
    this.core = core;
    this.#gate = gate;
  }

  /** Builds it. The gate, if there is one, serves before the first command can run. */
  static async start(
    { capabilities, network, allowDegraded }: Declared,
    options: SandboxOptions,
    record: RunRecord | undefined,
  ): Promise<Running> {
    const create = (granted: Capabilities): Promise<CoreSandbox> =>
      createSandbox(granted, {
        ...(options.tier !== undefined && { tier: options.tier }),
        allowDegraded: [...(options.allowDegraded ?? []), ...allowDegraded],
      });
    if (!network.needsGate) return new Running(await create(capabilities));

    const gate = await network.createGate(await gateSink(record));
    try {
      const core = await create(network.withGate(capabilities, gate));
      await gate.serve(core.takeListeners());
      return new Running(core, gate);
    } catch (error) {
      await gate.close();
      throw error;
    }
  }

  /** Kills every process inside, then closes the gate. */
  async stop(): Promise<void> {
    await this.core.close();
    await this.#gate?.close();
  }
}
