// Undoing what commands did: a checkpoint of the writable directories, made before the first command.
// @nono/rollback is loaded only then.
import path from "node:path";
import { CapabilitiesError, type Path } from "@nono/core";
import type { Checkpoint, CheckpointOptions, EventSink } from "@nono/rollback";
import { statSync } from "node:fs";
import { keepOutOfReach, stateDirectory } from "./state.ts";

/** How {@link Sandbox.enableRollback} keeps the state of the writable directories. */
export interface RollbackSettings extends Omit<CheckpointOptions, "events"> {
  /**
   * Whether `close()` leaves the checkpoint behind, for `nono diff` and `nono rollback` later.
   * Default: false, the changes are kept and the checkpoint is deleted.
   */
  readonly keep?: boolean;
}

/**
 * Makes the checkpoint of a sandbox.
 *
 * @throws {@link CapabilitiesError} for a writable file, which has no directory of its own to bring
 *   back, and for records within the commands' reach.
 */
export async function checkpointOf(
  writable: readonly Path[],
  settings: RollbackSettings,
  events: EventSink | undefined,
): Promise<Checkpoint> {
  const { checkpoint } = await import("@nono/rollback");
  const directories = topmost(writable.map(directoryOf));
  if (directories.length === 0) {
    throw new CapabilitiesError(
      "ERR_NONO_INVALID_CAPABILITIES",
      "enableRollback has nothing to keep: no directory may be written",
      {
        value: "enableRollback",
        remedy: "Call allowWrite with a directory, or leave rollback out.",
      },
    );
  }
  keepOutOfReach(
    settings.store ?? path.join(stateDirectory(), "rollback"),
    directories,
    "rollback",
  );
  const { keep: _, ...options } = settings;
  return checkpoint(directories, { ...options, ...(events !== undefined && { events }) });
}

function directoryOf(grant: Path): string {
  const name = typeof grant === "string" ? grant : Buffer.from(grant).toString();
  if (statSync(name, { throwIfNoEntry: false })?.isDirectory()) return path.resolve(name);
  throw new CapabilitiesError(
    "ERR_NONO_INVALID_CAPABILITIES",
    `enableRollback covers directories, and ${name} is not one`,
    { value: name, remedy: "Allow its directory to be written, or leave rollback out." },
  );
}

/** Those that are below none of the others. */
function topmost(directories: readonly string[]): string[] {
  return [...new Set(directories)].filter(
    (inner) => !directories.some((outer) => outer !== inner && inner.startsWith(`${outer}/`)),
  );
}
