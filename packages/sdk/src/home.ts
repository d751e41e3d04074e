import { homedir, userInfo } from "node:os";
import path from "node:path";

/**
 * The user's home directory: what HOME says, if that is absolute. An empty or relative one would mean the
 * current directory, which is the commands'.
 */
export function homeDirectory(): string {
  const said = homedir();
  return path.isAbsolute(said) ? said : userInfo().homedir;
}
