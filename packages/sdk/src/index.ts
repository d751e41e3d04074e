/**
 * Run any agent with exactly the capabilities you declare.
 *
 * @packageDocumentation
 */
export type { AuditRecord, AuditSettings } from "./audit.ts";
export type { Credential, NetworkOptions } from "./network.ts";
export { Declaration, type Surroundings } from "./declaration.ts";
export { SandboxEmitter, type SandboxEmitterMap } from "./events.ts";
export type { HostQuestion } from "./explain-host.ts";
export { formatPolicy, type LearnablePolicy, type PolicyFormat } from "./learn/format.ts";
export {
  learn,
  type LearnedPolicy,
  type LearnedRefusal,
  type LearningRound,
  type LearnOptions,
} from "./learn/learn.ts";
export type { RefusalReason } from "./learn/never.ts";
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
export type { GateViolation, PolicyViolation } from "./violation.ts";
export {
  ArgumentError,
  CapabilitiesError,
  ExecError,
  guaranteeNames,
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
  Approval,
  Capabilities,
  EnvironmentCapabilities,
  ErrorCode,
  ErrorInfo,
  EventGap,
  EventProcess,
  Exit,
  Explanation,
  Guarantee,
  GuaranteeName,
  Input,
  Limits,
  PartialResult,
  Operation,
  Path,
  Question,
  RunOptions,
  RunResult,
  SandboxEvent,
  SandboxedProcess,
  SandboxOptions,
  SpawnOptions,
  StdioOption,
  Suggestion,
  Support,
  TerminalSize,
  Usage,
  Violation,
} from "@nono/core";
