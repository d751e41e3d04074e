// Every command of `nono`, in the order of its help. Only the one that is meant is loaded: most of what a
// short command costs is the reading of modules.
import type { Command, ForeignCommand } from "../command.ts";

type AnyCommand = Command | ForeignCommand;

const modules: Readonly<Record<string, () => Promise<AnyCommand>>> = {
  run: async () => (await import("./run.ts")).run,
  shell: async () => (await import("./shell.ts")).shell,
  why: async () => (await import("./why.ts")).why,
  learn: async () => (await import("./learn.ts")).learn,
  diff: async () => (await import("./rollback.ts")).diff,
  rollback: async () => (await import("./rollback.ts")).rollback,
  commit: async () => (await import("./rollback.ts")).commit,
  checkpoint: async () => (await import("./rollback.ts")).checkpoint,
  checkpoints: async () => (await import("./rollback.ts")).checkpoints,
  recover: async () => (await import("./rollback.ts")).recover,
  audit: async () => (await import("./audit.ts")).audit,
  policy: async () => (await import("./policy.ts")).policy,
  keychain: async () => (await import("./keychain.ts")).keychain,
  doctor: async () => (await import("./doctor.ts")).doctor,
  completions: async () => (await import("./completions.ts")).completions,
};

/** Their names. */
export const commandNames: readonly string[] = Object.keys(modules);

/** The command of a name; undefined: there is none. */
export async function commandNamed(name: string): Promise<AnyCommand | undefined> {
  return Object.hasOwn(modules, name) ? modules[name]?.() : undefined;
}

/** All of them. */
export async function allCommands(): Promise<readonly AnyCommand[]> {
  return Promise.all(Object.values(modules).map((load) => load()));
}
