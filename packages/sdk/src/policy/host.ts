// What a policy may ask of the machine it is resolved on.
import { accessSync, constants, existsSync, realpathSync, statSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { homeDirectory } from "../home.ts";

/** The machine, as presets and variables see it. */
export class Host {
  readonly workspace: string;
  readonly home: string;
  readonly searchPath: string;
  readonly #scratch: () => string;

  constructor(workspace: string, scratch: () => string) {
    this.workspace = workspace;
    this.home = homeDirectory();
    this.searchPath = process.env["PATH"] ?? "";
    this.#scratch = scratch;
  }

  /** The sandbox's own temporary directory; asking for it makes it. */
  get scratch(): string {
    return this.#scratch();
  }

  /** Where `PATH` finds a program, its symbolic links followed. */
  program(name: string): string | undefined {
    const directories = this.searchPath
      .split(path.delimiter)
      .filter((name) => path.isAbsolute(name));
    const found = directories.map((directory) => path.join(directory, name)).find(isExecutable);
    return found === undefined ? undefined : realpathSync(found);
  }

  exists(name: string): boolean {
    return existsSync(name);
  }
}

function isExecutable(name: string): boolean {
  try {
    accessSync(name, constants.X_OK);
    return statSync(name).isFile();
  } catch {
    return false;
  }
}
