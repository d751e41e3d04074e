/**
 * Run any agent with exactly the capabilities you declare.
 *
 * @packageDocumentation
 */
export type { Credential, NetworkOptions } from "./network.ts";
export { Sandbox, type SandboxSettings } from "./sandbox.ts";
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
