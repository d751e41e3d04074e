export type NativePath = string | Uint8Array;

export interface NativeCapabilities {
  read?: Array<string | Uint8Array>;
  write?: Array<string | Uint8Array>;
  exec?: Array<string | Uint8Array>;
  deny?: Array<string | Uint8Array>;
  network?: string;
  env?: NativeEnv;
  limits?: NativeLimits;
  baseProfile?: boolean;
}
export interface NativeEnv {
  allow?: Array<string>;
  set?: Record<string, string>;
}
export interface NativeLimits {
  memory?: number;
  processes?: number;
  openFiles?: number;
  fileSize?: number;
  cpuSeconds?: number;
}
export interface NativeOptions {
  tier?: string;
  allowDegraded?: Array<string>;
}
export interface NativeGuarantee {
  name: string;
  status: string;
  mechanism: string;
  reason?: string;
}
export interface NativeTier {
  name: string;
  available: boolean;
  reason?: string;
}
export interface NativeSupport {
  landlockAbi: number;
  kernel: string;
  userNamespaces: boolean;
  seccompNotify: boolean;
  tiers: Array<NativeTier>;
}
export interface NativeCommand {
  argv: Array<string | Uint8Array>;
  cwd?: string | Uint8Array;
  env?: Record<string, string>;
  stdio: Array<string | number>;
}
export interface NativeUsage {
  userMs: number;
  systemMs: number;
  maxRssBytes: number;
}
export interface NativeExit {
  code: number | null;
  signal: string | null;
  usage: NativeUsage;
}
export declare function support(): NativeSupport;
export declare function createSandbox(
  capabilities: NativeCapabilities,
  options: NativeOptions,
): Promise<NativeSandbox>;
export declare class NativeSandbox {
  get tier(): string;
  get pid(): number;
  guarantees(): Array<NativeGuarantee>;
  spawn(command: NativeCommand): NativeChild;
  close(): Promise<void>;
}
export declare class NativeChild {
  get stdio(): Array<number | null>;
  started(): Promise<number>;
  exited(): Promise<NativeExit>;
  kill(signal: number): void;
}
