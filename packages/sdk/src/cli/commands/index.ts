// Every command of `nono`, in the order of its help.
import type { Command, ForeignCommand } from "../command.ts";
import { audit } from "./audit.ts";
import { completions } from "./completions.ts";
import { doctor } from "./doctor.ts";
import { keychain } from "./keychain.ts";
import { learn } from "./learn.ts";
import { policy } from "./policy.ts";
import { rollbackCommands } from "./rollback.ts";
import { run } from "./run.ts";
import { shell } from "./shell.ts";
import { why } from "./why.ts";

/** All of them. */
export const commands: readonly (Command | ForeignCommand)[] = [
  run,
  shell,
  why,
  learn,
  ...rollbackCommands,
  audit,
  policy,
  keychain,
  doctor,
  completions,
];
