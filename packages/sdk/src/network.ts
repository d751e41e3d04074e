// The network of a sandbox: its policy while it is being declared, and the gate of @nono/proxy that serves
// an allow-list. The package is loaded only then.
import { isIPv6 } from "node:net";
import { ArgumentError, CapabilitiesError, type Capabilities } from "@nono/core";
import type { CredentialConfig, CredentialSource, Gate, GateOptions } from "@nono/proxy";
import { mergeNetworks, type ResolvedPolicy } from "./policy/merge.ts";
import type { NetworkAccess } from "./policy/policy.ts";
import type { OneOrMore } from "./validate.ts";

/** A credential that commands may use and never see: see {@link Sandbox.injectCredential}. */
export interface Credential extends Omit<CredentialConfig, "source"> {
  /**
   * Takes the value from the machine's keychain: the entry of account `name` in the service
   * `"nono"`, or the one named here.
   */
  readonly tokenFromKeychain?: true | { readonly service?: string; readonly account: string };
  /** Takes the value from elsewhere: `fromEnv`, `fromFile`, `fromCommand` … of `@nono/proxy`. */
  readonly tokenFrom?: CredentialSource;
}

/** Options of the gate that serves the network: see `GateOptions` of `@nono/proxy`. */
export interface NetworkOptions extends Pick<
  GateOptions,
  "tls" | "rules" | "resolver" | "upstreamProxy" | "onEvent"
> {
  /** Hosts in the forms of {@link Sandbox.allowNetwork}; they win over what is allowed. */
  readonly deny?: OneOrMore<string>;
}

/** What commands may reach, as declared so far. */
export class NetworkPolicy {
  /** Hosts with what is denied and ruled of them, or a word for all networks; the later word counts. */
  access: ResolvedPolicy["network"] = "blocked";
  readonly #credentials = new Map<string, Credential>();
  #options: Omit<NetworkOptions, "deny" | "rules"> = {};

  get #gated(): NetworkAccess {
    return typeof this.access === "string" ? { allow: [] } : this.access;
  }

  /** Whether a gate is needed. */
  get needsGate(): boolean {
    return this.#gated.allow.length > 0 || this.#credentials.size > 0;
  }

  /** As of `Capabilities` of `@nono/core`: with a gate, the ports that its hosts are named with. */
  get capabilities(): Pick<Capabilities, "network" | "gatePorts"> {
    if (!this.needsGate) return { network: this.access === "open" ? "open" : "blocked" };
    return { network: "gate", gatePorts: [...new Set(this.#gated.allow.flatMap(portsOf))] };
  }

  /** @throws {@link ArgumentError} for credentials that nothing could put in their places. */
  check(): void {
    const [name] = this.#credentials.keys();
    if (this.access !== "open" || name === undefined) return;
    throw new ArgumentError(
      "ERR_NONO_INVALID_OPTION",
      `the network is open, so there is no gate at which ${name} could be put in its place`,
      { value: name, remedy: "Name the hosts that may be reached, or leave the credential out." },
    );
  }

  allow(hosts: OneOrMore<string>, { deny, rules, ...options }: NetworkOptions): void {
    for (const host of list(hosts)) {
      if (typeof host !== "string" || host === "") {
        throw new CapabilitiesError(
          "ERR_NONO_INVALID_CAPABILITIES",
          `allowNetwork: ${JSON.stringify(host)} is not a host`,
          { value: host, remedy: 'Give "host", "host:port", "*.suffix", an address or a range.' },
        );
      }
    }
    this.access = mergeNetworks(this.access, {
      allow: list(hosts),
      ...(deny !== undefined && { deny: list(deny) }),
      ...(rules !== undefined && { rules }),
    });
    this.#options = { ...this.#options, ...options };
  }

  inject(credential: Credential): void {
    const { name, tokenFrom, tokenFromKeychain } = credential;
    if ((tokenFrom === undefined) === (tokenFromKeychain === undefined)) {
      throw new ArgumentError(
        "ERR_NONO_INVALID_OPTION",
        `injectCredential: ${name} needs one source`,
        { value: name, remedy: "Give tokenFromKeychain or tokenFrom, not both." },
      );
    }
    this.#credentials.set(name, credential);
  }

  /** Makes the gate; it listens only when it is given the sandbox's sockets. */
  async createGate(
    sink: GateOptions["sink"],
    onEvent: NonNullable<GateOptions["onEvent"]>,
  ): Promise<Gate> {
    const proxy = await import("@nono/proxy");
    const credentials = [...this.#credentials.values()].map(
      ({ tokenFrom, tokenFromKeychain, ...credential }): CredentialConfig => ({
        ...credential,
        source: tokenFrom ?? keychainEntry(proxy.fromKeychain, credential.name, tokenFromKeychain),
      }),
    );
    const { onEvent: asked, ...options } = this.#options;
    return proxy.createGate({
      ...options,
      ...this.#gated,
      credentials,
      onEvent: (event) => {
        asked?.(event);
        onEvent(event);
      },
      ...(sink !== undefined && { sink }),
    });
  }

  /** The capabilities of a sandbox behind this gate. */
  withGate(capabilities: Capabilities, gate: Gate): Capabilities {
    return {
      ...capabilities,
      read: [...(capabilities.read ?? []), gate.trustFiles.directory],
      env: {
        ...capabilities.env,
        set: { ...gate.env(), ...capabilities.env?.set },
      },
    };
  }
}

function keychainEntry(
  fromKeychain: typeof import("@nono/proxy").fromKeychain,
  name: string,
  entry: Credential["tokenFromKeychain"],
): CredentialSource {
  return fromKeychain(entry === true || entry === undefined ? { account: name } : entry);
}

/** The ports that an allow-list entry opens: its own, or those of the web. */
function portsOf(entry: string): number[] {
  const port = isIPv6(entry) ? undefined : /:(\d+)$/.exec(entry)?.[1];
  return port === undefined ? [443, 80] : [Number(port)];
}

function list<T>(values: OneOrMore<T>): T[] {
  return Array.isArray(values) ? [...(values as readonly T[])] : [values as T];
}
