/**
 * Kernel-enforced sandboxes: declare capabilities, spawn commands, and be told what is really
 * enforced here.
 *
 * @packageDocumentation
 */
export type { Approval, OnRequest } from "./approval.ts";
export type { Capabilities, EnvironmentCapabilities, Limits, Path } from "./capabilities.ts";
export type { OverlayMount, SandboxOptions } from "./capabilities.ts";
export * from "./errors.ts";
export { isViolation } from "./event.ts";
export type {
  EventGap,
  EventProcess,
  Operation,
  SandboxEvent,
  Suggestion,
  Violation,
} from "./event.ts";
export type { SandboxEventMap, SandboxEvents } from "./events.ts";
export { explain, type Explanation, type Question } from "./explain.ts";
export type { ConnectionEnds, GateListener } from "./gate.ts";
export type {
  Exit,
  SandboxedProcess,
  SpawnOptions,
  StdioOption,
  TerminalSize,
  Usage,
} from "./process.ts";
export type { Input, RunOptions, RunResult } from "./run.ts";
export { restrictSelf, type RestrictOptions } from "./restrict.ts";
export { createSandbox, type Sandbox } from "./sandbox.ts";
export {
  guaranteeNames,
  support,
  type Guarantee,
  type GuaranteeName,
  type Support,
} from "./support.ts";
