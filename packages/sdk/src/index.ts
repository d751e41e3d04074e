/**
 * Run any agent with exactly the capabilities you declare.
 *
 * @packageDocumentation
 */
export type { AuditRecord, AuditSettings } from "./audit.ts";
export type { Credential, NetworkOptions } from "./network.ts";
export { Declaration } from "./declaration.ts";
export { PolicyError, type PolicyPlace } from "./policy/errors.ts";
export type {
  HeaderScheme,
  NetworkAccess,
  NetworkRule,
  Policy,
  PolicyCredential,
  PolicyEnvironment,
  PolicyRollback,
  PolicySource,
} from "./policy/policy.ts";
export type { PolicyContext } from "./policy/resolve.ts";
export type { SandboxResult } from "./result.ts";
export { Sandbox, type SandboxSettings } from "./sandbox.ts";
export type { RollbackSettings } from "./undo.ts";
export {
  ArgumentError,
  CapabilitiesError,
  ExecError,
  InternalError,
  InterruptedError,
  LimitError,
  NonoError,
  PathError,
  SandboxClosedError,
  StartError,
  support,
  UnsupportedPlatformError,
  UnsupportedPolicyError,
} from "@nono/core";
export type {
  Capabilities,
  EnvironmentCapabilities,
  ErrorCode,
  ErrorInfo,
  Exit,
  Guarantee,
  Input,
  Limits,
  PartialResult,
  Path,
  RunOptions,
  RunResult,
  SandboxedProcess,
  SandboxOptions,
  SpawnOptions,
  StdioOption,
  Support,
  Usage,
} from "@nono/core";
