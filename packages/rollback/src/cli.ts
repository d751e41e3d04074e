import { isUtf8 } from "node:buffer";
import path from "node:path";
import { parseArgs } from "node:util";
import type { Change } from "./change.ts";
import {
  type Checkpoint,
  checkpoint,
  openCheckpoint,
  type StrategyName,
  workingDirectory,
} from "./checkpoint.ts";
import { RollbackError } from "./errors.ts";
import { listCheckpoints, recover } from "./store.ts";
import { renderPatch } from "./patch.ts";
import { printable, renderTree } from "./tree.ts";

/** Where a command writes. */
export interface CommandIo {
  readonly stdout: { write(text: string): unknown; readonly isTTY?: boolean };
  readonly stderr: { write(text: string): unknown };
}

const usage = `usage: nono checkpoint [--strategy NAME] [--exclude PATTERN]... DIR...
       nono checkpoints
       nono diff [-p] [--checkpoint ID] [PATH...]
       nono rollback [--checkpoint ID] [PATH...]
       nono commit [--checkpoint ID] [PATH...]
       nono recover
       -p  what is in the files, as a patch for git apply
       --json  one line of JSON instead
       every command takes --store DIR; without --checkpoint the newest open one is meant that covers
       the paths, or without any the working directory
`;

/**
 * Runs one of the commands `checkpoint`, `checkpoints`, `diff`, `rollback`, `commit`, `recover`.
 *
 * @param argv the command and its arguments
 * @returns the exit code: 0, 1 when it failed, 2 for wrong usage
 *
 * @example
 * ```ts
 * process.exitCode = await runRollbackCommand(["diff", "-p"], process);
 * ```
 */
export async function runRollbackCommand(argv: readonly string[], io: CommandIo): Promise<number> {
  const [command = "", ...rest] = argv;
  const run = Object.hasOwn(commands, command) ? commands[command] : undefined;
  if (run === undefined) {
    io.stderr.write(usage);
    return 2;
  }
  if (rest.includes("--help") || rest.includes("-h")) {
    io.stdout.write(usage);
    return 0;
  }
  let invocation: Invocation;
  try {
    invocation = parse(rest);
    if (command === "checkpoint" && invocation.paths.length === 0) {
      throw new Error("name the directory to keep, `.` for this one");
    }
  } catch (error) {
    const { message } = error as Error;
    // The flags could not be read, so the words themselves say in what form the answer is wanted.
    const words = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
    if (words.includes("--json")) {
      const remedy = `See nono ${command} --help.`;
      printJson(io, { error: { code: "ERR_NONO_INVALID_OPTION", message, remedy } });
    }
    io.stderr.write(`nono ${command}: ${printable(message)}\n${usage}`);
    return 2;
  }
  try {
    // What an agent wrote must not steer a terminal; a file or another program gets it as it is.
    const shown = io.stdout.isTTY === true ? withoutControl : (text: string): string => text;
    const print = (line: string): unknown => io.stdout.write(`${shown(line)}\n`);
    const result = await run(invocation, invocation.json === true ? () => {} : print);
    if (invocation.json === true) printJson(io, result);
    return 0;
  } catch (error) {
    if (!(error instanceof RollbackError)) throw error;
    if (invocation.json === true) {
      const { code, message, path: about } = error;
      printJson(io, { error: { code, message, path: about } });
    }
    io.stderr.write(`nono ${command}: ${printable(error.message)} (${error.code})\n`);
    return 1;
  }
}

function printJson(io: CommandIo, value: unknown): void {
  io.stdout.write(`${printable(JSON.stringify(value))}\n`);
}

type Invocation = ReturnType<typeof parse>;
type Print = (line: string) => unknown;

function parse(args: string[]) {
  const options = {
    checkpoint: { type: "string" },
    exclude: { type: "string", multiple: true },
    json: { type: "boolean" },
    patch: { type: "boolean", short: "p" },
    store: { type: "string" },
    strategy: { type: "string" },
  } as const;
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
  const { store, ...rest } = values;
  return { ...rest, store: store === undefined ? {} : { store }, paths: positionals };
}

/** Each prints for people, and returns the same for programs. */
const commands: Record<string, (invocation: Invocation, print: Print) => Promise<unknown>> = {
  async checkpoint({ paths, strategy = "auto", exclude = [], store }, print) {
    const options = { strategy: strategy as StrategyName, exclude, ...store };
    const made = await checkpoint(paths, options);
    print(`${made.id}  ${made.strategy.name}: ${made.strategy.reason}`);
    return { id: made.id, strategy: made.strategy };
  },

  async checkpoints({ store }, print) {
    const list = await listCheckpoints(store);
    for (const { id, createdAt, dirs, strategy, state, complete, unfinished } of list) {
      const condition = unfinished ? "interrupted" : complete ? state : "incomplete";
      print(
        [id, createdAt.toISOString(), condition.padEnd(11), strategy.padEnd(7), ...dirs].join("  "),
      );
    }
    if (list.length === 0) print("no checkpoints");
    return list;
  },

  async diff(invocation, print) {
    const { target, paths } = await chosen(invocation);
    const changes: Change[] = [];
    for await (const change of target.changes()) {
      const full = path.join(change.dir, change.path);
      if (paths.length === 0 || paths.some((above) => isWithin(full, above))) changes.push(change);
    }
    if (invocation.patch !== true) print(renderTree(changes));
    // oxlint-disable-next-line no-await-in-loop -- in order, and one pair of files in memory
    else for (const change of changes) print(await renderPatch(change));
    return changes.map(({ kind, dir, rawPath, rawFrom }) => ({
      kind,
      dir,
      ...named("path", rawPath),
      ...(rawFrom === undefined ? {} : named("from", rawFrom)),
    }));
  },

  async rollback(invocation, print) {
    const { target, paths } = await chosen(invocation);
    const { holders } = await target.rollback(paths.length > 0 ? { paths } : {});
    // This process has been in the directory as well, and ends.
    const others = holders.filter(({ pid }) => pid !== process.pid);
    for (const { pid, command, path: held } of others) {
      print(`warning: process ${pid} (${command}) still uses the discarded ${held}`);
    }
    if (others.some(({ kind }) => kind === "directory")) {
      print('A shell gets to the one that is there now by: cd "$PWD"');
    }
    print(`rolled back ${(paths.length > 0 ? paths : target.dirs).join(" ")}`);
    if (paths.length === 0) await target.dispose();
    return { rolledBack: paths.length > 0 ? paths : target.dirs, holders: others };
  },

  async commit(invocation, print) {
    const { target, paths } = await chosen(invocation);
    await target.commit(paths.length > 0 ? { paths } : {});
    print(`committed ${(paths.length > 0 ? paths : target.dirs).join(" ")}`);
    if (paths.length === 0) await target.dispose();
    return { committed: paths.length > 0 ? paths : target.dirs };
  },

  async recover({ store }, print) {
    const result = await recover(store);
    const { finished, removed, busy } = result;
    print(`finished ${finished.length}, removed ${removed.length}, busy ${busy.length}`);
    return result;
  },
};

/** A path in JSON; in base64 where it is not UTF-8, as in the record of @nono/audit. */
function named(field: "path" | "from", name: Buffer): Record<string, string> {
  return isUtf8(name)
    ? { [field]: name.toString() }
    : { [`${field}_b64`]: name.toString("base64") };
}

/** The checkpoint that is meant, and the paths given, which are meant as everywhere in a shell. */
async function chosen(
  invocation: Invocation,
): Promise<{ target: Checkpoint; paths: readonly string[] }> {
  const { checkpoint: id, store, paths } = invocation;
  const target = await openCheckpoint(id ?? (await newest(store, paths)), store);
  return { target, paths: paths.map((name) => resolved(name, target.dirs)) };
}

/** Never one of another directory: it would undo what nobody meant. */
async function newest(store: Invocation["store"], paths: readonly string[]): Promise<string> {
  const here = workingDirectory();
  const meant = paths.length > 0 ? paths.map((name) => path.resolve(here, name)) : [here];
  const isMeant = (dirs: readonly string[]): boolean =>
    meant.every((name) => dirs.some((dir) => isWithin(name, dir)));
  const open = (await listCheckpoints(store)).filter(
    ({ state, complete }) => (state === "active" || state === "applied") && complete,
  );
  const found = open.findLast(({ dirs }) => isMeant(dirs));
  if (found !== undefined) return found.id;
  throw new RollbackError(
    "ERR_NONO_UNKNOWN_CHECKPOINT",
    open.length === 0
      ? "there is no open checkpoint: `nono checkpoint DIR` makes one"
      : `no open checkpoint covers ${meant.join(" ")}: name one of \`nono checkpoints\` by --checkpoint`,
  );
}

/** Meant from where one is, unless neither that nor what is named is in a directory of the checkpoint: then from its first. */
function resolved(name: string, dirs: readonly string[]): string {
  const here = workingDirectory();
  const full = path.resolve(here, name);
  const isMeant = dirs.some((dir) => isWithin(here, dir) || isWithin(full, dir));
  return isMeant ? full : path.resolve(dirs[0] ?? "", name);
}

function isWithin(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer.endsWith("/") ? outer : `${outer}/`);
}

/** Lines and tabs are left, all else is spelt out. */
function withoutControl(text: string): string {
  return text
    .split(/([\n\t])/u)
    .map((part, index) => (index % 2 === 1 ? part : printable(part)))
    .join("");
}
