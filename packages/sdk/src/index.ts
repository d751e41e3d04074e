/**
 * Run any agent with exactly the capabilities you declare.
 *
 * @packageDocumentation
 */
export type { AuditRecord, AuditSettings } from "./audit.ts";
export type { Credential, NetworkOptions } from "./network.ts";
export { Sandbox, type SandboxResult, type SandboxSettings } from "./sandbox.ts";
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
