import type { NativeQuestion } from "./binding.gen.ts";
import { binding } from "./binding.ts";
import type { Capabilities, Path, SandboxOptions } from "./capabilities.ts";
import { describe, type Suggestion } from "./event.ts";
import { native } from "./native-errors.ts";
import { toNativeCapabilities, toNativeOptions, toNativeQuestion } from "./to-native.ts";

/** What is asked about; exactly one of these. */
export type Question =
  | {
      /** An absolute path, which need not exist. */
      readonly path: Path;
      /** What is wanted of it. Default: `"read"`. */
      readonly access?: "read" | "write" | "execute";
    }
  | {
      /** A program: an absolute path, or a name to look up. */
      readonly exec: Path;
    }
  | {
      /** A TCP port to connect to. Which hosts a gate lets through is the gate's to say. */
      readonly port: number;
    }
  | {
      /** The path of a unix socket of the host. */
      readonly unixSocket: Path;
    }
  | {
      /** The name of an environment variable. */
      readonly env: string;
    };

/** What a sandbox would say. */
export interface Explanation {
  /** Whether the sandbox lets it pass. The file's own permissions, say, can still refuse it. */
  readonly allowed: boolean;
  /** The path without symbolic links, where the question is about one. */
  readonly path?: Path;
  /** The grant that allows it, or the rule that refuses it, in words. */
  readonly rule: string;
  /** What would let it pass. */
  readonly suggestion?: Suggestion;
}

/**
 * Says what a sandbox with these capabilities would do, by the code that decides in the sandbox;
 * none is built, nothing is started.
 *
 * @throws {@link CapabilitiesError}, {@link PathError} or {@link ExecError} for capabilities or a
 *   question that make no sense here.
 * @example
 * ```ts
 * const { allowed, rule, suggestion } = explain(capabilities, { path: "/etc/shadow" });
 * if (!allowed) console.log(rule, suggestion?.call);
 * ```
 */
export function explain(
  capabilities: Capabilities,
  question: Question,
  options: SandboxOptions = {},
): Explanation {
  const [declared, chosen] = [toNativeCapabilities(capabilities), toNativeOptions(options)];
  const asked = toNativeQuestion(question);
  return answer(() => binding().explain(declared, chosen, asked));
}

type NativeExplanation = ReturnType<ReturnType<typeof binding>["explain"]>;

/** The addon's answer in this package's terms. */
export function answer(ask: (question?: NativeQuestion) => NativeExplanation): Explanation {
  const { allowed, path, rule, suggestion } = native(ask);
  return {
    allowed,
    ...(path !== undefined && { path }),
    rule,
    ...(suggestion !== undefined && { suggestion: describe(suggestion) }),
  };
}
