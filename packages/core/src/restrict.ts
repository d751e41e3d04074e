import { binding } from "./binding.ts";
import type { Capabilities, SandboxOptions } from "./capabilities.ts";
import { native } from "./native-errors.ts";
import type { Guarantee } from "./support.ts";
import { toNativeCapabilities, toNativeOptions } from "./to-native.ts";

/** How far {@link restrictSelf} may fall short. */
export type RestrictOptions = Pick<SandboxOptions, "allowDegraded">;

/**
 * Restricts this very process to the capabilities, for good: the thread that calls, libuv's pool,
 * V8's threads, every `Worker`, and whatever they start from now on. Calling it again restricts
 * further. Works from anywhere in the process, at any time; best before the code that is not trusted
 * is loaded.
 *
 * No supervisor can stand beside a process that restricts itself, so what only a supervisor keeps is
 * refused as a policy: `network: "gate"`, ports, `unixSockets`, `deny`, `wallSeconds`, and protected
 * names in writable directories (give `protect: false`). Nor can it take back what the process has:
 * open descriptors and connections, its environment, what is in its memory, children that run
 * already. In Node 24 and later, libuv has io_uring rings, which JavaScript can't reach but native
 * code can: with it, socket rules other than for TCP are `"partial"`. Root loses its capabilities.
 * `os.setPriority` and the like work for the calling process (`0`), and are refused (EPERM) where one is
 * named by its number; files can't be watched (`fs.watch`: ENOSYS). Close sandboxes before, and create none after.
 *
 * @returns What is promised from now on, and how far it holds.
 * @throws {@link CapabilitiesError}, {@link PathError} or {@link ExecError} for capabilities that make
 *   no sense here; {@link UnsupportedPolicyError} for what can't be kept. Nothing has changed then.
 * @throws {@link StartError} when the kernel refused a step; see `details.partial`.
 * @example
 * ```ts
 * restrictSelf({ read: ["/app", "/data"], write: ["/data/out"], protect: false });
 * await import("/app/plugin.js");
 * ```
 */
export function restrictSelf(
  capabilities: Capabilities = {},
  options: RestrictOptions = {},
): readonly Guarantee[] {
  const declared = toNativeCapabilities(capabilities);
  const { allowDegraded = [] } = toNativeOptions(options);
  return native(() => binding().restrictSelf(declared, allowDegraded)) as Guarantee[];
}
