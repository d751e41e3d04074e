// What a policy may ask of the machine it is resolved on.
import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, realpathSync, statSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { homeDirectory } from "../home.ts";
import { isBelow } from "../state.ts";

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
    const [found] = this.#find(name);
    return found && realpathSync(found);
  }

  /** The same, by the name that `PATH` finds. */
  link(name: string): string | undefined {
    return this.#find(name)[0];
  }

  /** The same, but none of the workspace's, where agents write. */
  ownProgram(name: string): string | undefined {
    return this.#find(name).find(
      (found) => ![found, realpathSync(found)].some((file) => this.#isCommands(file)),
    );
  }

  /**
   * What a program prints, run outside any sandbox: so it is none of the workspace's, where agents write
   * (`npm run` has its `node_modules/.bin` in `PATH`), and does not stand there, since version managers and
   * Go do what files of the current directory say.
   *
   * @returns Undefined when there is none, or it fails.
   */
  ask(name: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string | undefined {
    const found = this.ownProgram(name);
    const program = found && realpathSync(found);
    if (program === undefined) return undefined;
    // Both are for what the user runs, and may name files of the current directory.
    const { NODE_OPTIONS: _, PYTHONSTARTUP: __, ...own } = process.env;
    try {
      return execFileSync(program, args, {
        cwd: "/",
        encoding: "utf8",
        env: { ...own, ...env },
        stdio: ["ignore", "pipe", "ignore"],
        timeout: 10_000,
      }).trim();
    } catch {
      return undefined;
    }
  }

  /** The same, if it is a path: what only has a tool's name may print anything. */
  askPath(name: string, args: readonly string[], env?: NodeJS.ProcessEnv): string | undefined {
    const said = this.ask(name, args, env);
    return said !== undefined && path.isAbsolute(said) ? said : undefined;
  }

  /** The path that a variable of nono's own environment names. A relative one is what commands make it. */
  named(variable: string): string | undefined {
    const said = process.env[variable] ?? "";
    return path.isAbsolute(said) ? path.normalize(said) : undefined;
  }

  /** Whether a grant of it would be one of the home directory. */
  isTooWide(directory: string): boolean {
    return isBelow(this.home, path.resolve(directory));
  }

  exists(name: string): boolean {
    return existsSync(name);
  }

  #find(name: string): string[] {
    const directories = this.searchPath
      .split(path.delimiter)
      .filter((directory) => path.isAbsolute(directory));
    return directories.map((directory) => path.join(directory, name)).filter(isExecutable);
  }

  /** Whether commands may have put it there. Not all at home is theirs, because they work there. */
  #isCommands(file: string): boolean {
    return isBelow(file, this.workspace) && !isBelow(this.home, this.workspace);
  }
}

/** Whether it is a file that this user may start. */
export function isExecutable(name: string): boolean {
  try {
    accessSync(name, constants.X_OK);
    return statSync(name).isFile();
  } catch {
    return false;
  }
}
