import { homedir, userInfo } from "node:os";
import path from "node:path";
import process from "node:process";
import { CapabilitiesError } from "@nono/core";

/**
 * The user's home directory: what HOME says, if that is absolute. An empty or relative one would mean the
 * current directory, which is the commands'.
 *
 * @throws {@link CapabilitiesError} `ERR_NONO_INVALID_CAPABILITIES` if neither HOME nor the machine names
 * one, as for the numbers that containers are given as users (`docker run --user`).
 */
export function homeDirectory(): string {
  try {
    const said = homedir();
    return path.isAbsolute(said) ? said : userInfo().homedir;
  } catch {
    throw new CapabilitiesError(
      "ERR_NONO_INVALID_CAPABILITIES",
      `there is no home directory: HOME is not set, and no user has the number ${process.getuid?.()}`,
      { value: process.env["HOME"] ?? "", remedy: "Set HOME to a directory of yours." },
    );
  }
}
