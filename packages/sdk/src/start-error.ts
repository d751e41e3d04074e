import { type Path, StartError } from "@nono/core";

/** What `details.stage` says of a command that could not begin in its directory. */
const enteringCwd = "entering the working directory";

/**
 * The error of a command that did not start. When that was because of its working directory, which is
 * somewhere outside that the sandbox does not have, it says so.
 */
export function explainStart(error: unknown, cwd: Path | undefined): unknown {
  if (!(error instanceof StartError) || error.details["stage"] !== enteringCwd) return error;
  const directory = String(cwd);
  return new StartError(error.code, `The sandbox does not have the directory ${directory}`, {
    value: directory,
    remedy: `Grant it, as by allowRead(${JSON.stringify(directory)}) or --allow-read, or begin in another (cwd).`,
    details: error.details,
    cause: error,
  });
}
