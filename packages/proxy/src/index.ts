/**
 * The network gate of nono: lets allow-listed names through, keeps credentials out of the agent, and records what
 * was asked for.
 *
 * @packageDocumentation
 */
export type {
  CredentialConfig,
  CredentialPlace,
  CredentialScheme,
} from "./credentials/credential.ts";
export type { PhantomShape } from "./credentials/phantom.ts";
export type { CredentialSource } from "./credentials/source.ts";
export type { TrustFiles } from "./environment.ts";
export { GateError, type GateErrorCode, type GateErrorDetails } from "./errors.ts";
export type { EventSink, GateEvent, Violation } from "./event.ts";
export { type Gate, type GateLimits, type GateOptions, createGate } from "./gate.ts";
export type { HttpLimits } from "./http/upstream-pool.ts";
export type { ConnectionEnds, GateListener } from "./net/intake.ts";
export { type Resolver, systemResolver } from "./net/dial.ts";
export type { Verdict } from "./policy/allow-list.ts";
export type { HttpRule } from "./policy/http-rules.ts";
export type { UpstreamTlsOptions } from "./tls/upstream-trust.ts";
export { EmbeddedStore, type StoreKey } from "./sources/embedded-store.ts";
export {
  type CredentialStore,
  defaultService,
  fromKeychain,
  fromKeytar,
  systemKeychain,
} from "./sources/keychain.ts";
export { fromCommand, fromEnv, fromFile, fromOnePassword, fromVault } from "./sources/plain.ts";
