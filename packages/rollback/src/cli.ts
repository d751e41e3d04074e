import { parseArgs } from "node:util";
import type { Change } from "./change.ts";
import { type Checkpoint, checkpoint, openCheckpoint, type StrategyName } from "./checkpoint.ts";
import { RollbackError } from "./errors.ts";
import { listCheckpoints, recover } from "./store.ts";
import { renderTree } from "./tree.ts";

/** Where a command writes. */
export interface CommandIo {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

const usage = `usage: nono checkpoint [--strategy NAME] [--exclude PATTERN]... DIR...
       nono checkpoints
       nono diff [-p] [--checkpoint ID]
       nono rollback [--checkpoint ID] [PATH...]
       nono commit [--checkpoint ID] [PATH...]
       nono recover
       every command takes --store DIR; without --checkpoint the newest open one is meant
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
  let invocation: Invocation;
  try {
    invocation = parse(rest);
  } catch (error) {
    io.stderr.write(`nono ${command}: ${(error as Error).message}\n${usage}`);
    return 2;
  }
  try {
    await run(invocation, (line) => io.stdout.write(`${line}\n`));
    return 0;
  } catch (error) {
    if (!(error instanceof RollbackError)) throw error;
    io.stderr.write(`nono ${command}: ${error.message} (${error.code})\n`);
    return 1;
  }
}

type Invocation = ReturnType<typeof parse>;
type Print = (line: string) => void;

function parse(args: string[]) {
  const options = {
    checkpoint: { type: "string" },
    exclude: { type: "string", multiple: true },
    patch: { type: "boolean", short: "p" },
    store: { type: "string" },
    strategy: { type: "string" },
  } as const;
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
  const { store, ...rest } = values;
  return { ...rest, store: store === undefined ? {} : { store }, paths: positionals };
}

const commands: Record<string, (invocation: Invocation, print: Print) => Promise<void>> = {
  async checkpoint({ paths, strategy = "auto", exclude = [], store }, print) {
    const options = { strategy: strategy as StrategyName, exclude, ...store };
    const made = await checkpoint(paths, options);
    print(`${made.id}  ${made.strategy.name}: ${made.strategy.reason}`);
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
  },

  async diff(invocation, print) {
    const changes: Change[] = [];
    for await (const change of (await chosen(invocation)).changes()) changes.push(change);
    if (invocation.patch !== true) {
      print(renderTree(changes));
      return;
    }
    for (const change of changes) {
      print(`--- ${change.kind} ${change.path}`);
      const diff = await change.diff();
      print(diff.kind === "text" ? diff.text.trimEnd() : `(${diff.kind})`);
    }
  },

  async rollback(invocation, print) {
    const { paths } = invocation;
    const target = await chosen(invocation);
    const { holders } = await target.rollback(paths.length > 0 ? { paths } : {});
    for (const { pid, command, path } of holders) {
      print(`warning: process ${pid} (${command}) still uses the discarded ${path}`);
    }
    print(`rolled back ${paths.length > 0 ? paths.join(" ") : target.dirs.join(" ")}`);
    if (paths.length === 0) await target.dispose();
  },

  async commit(invocation, print) {
    const { paths } = invocation;
    const target = await chosen(invocation);
    await target.commit(paths.length > 0 ? { paths } : {});
    print(`committed ${paths.length > 0 ? paths.join(" ") : target.dirs.join(" ")}`);
    if (paths.length === 0) await target.dispose();
  },

  async recover({ store }, print) {
    const { finished, removed, busy } = await recover(store);
    print(`finished ${finished.length}, removed ${removed.length}, busy ${busy.length}`);
  },
};

async function chosen({ checkpoint: id, store }: Invocation): Promise<Checkpoint> {
  if (id !== undefined) return openCheckpoint(id, store);
  const open = (await listCheckpoints(store)).findLast(
    ({ state, complete }) => (state === "active" || state === "applied") && complete,
  );
  if (open === undefined) {
    throw new RollbackError(
      "ERR_NONO_UNKNOWN_CHECKPOINT",
      "there is no open checkpoint: `nono checkpoint DIR` makes one",
    );
  }
  return openCheckpoint(open.id, store);
}
