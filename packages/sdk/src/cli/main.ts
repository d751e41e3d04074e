// The `nono` command. It prints on stdout only what was asked for: during a run, stdout belongs to the
// agent.
import process from "node:process";
import { ArgumentError } from "@nono/core";
import { printableLines } from "../printable.ts";
import { suggestion } from "../suggest.ts";
import { allCommands, commandNamed, commandNames } from "./commands/index.ts";
import { ownFailure } from "./exit-status.ts";
import { helpOf, overview, version } from "./help.ts";
import { print, printJson, tell, toJson } from "./output.ts";
import { asksForJson, flagsOf, parse } from "./parse.ts";
import { errorInJson, isRefusal } from "../refusal.ts";

let wasParsed = false;

async function main([name = "", ...args]: string[]): Promise<number> {
  if (name === "help" && (await commandNamed(args[0] ?? "")))
    return main([args[0] ?? "", "--help"]);
  const command = await commandNamed(name);
  if (command === undefined) return general(name);
  if ("runRaw" in command) return command.runRaw(args);
  const { values, operands } = parse(command, args);
  wasParsed = true;
  if (!values.has("help")) return command.run(values, operands);
  process.stdout.write(helpOf(command));
  return 0;
}

async function general(name: string): Promise<number> {
  switch (name) {
    case "--help":
    case "-h":
    case "help":
      process.stdout.write(overview(await allCommands()));
      return 0;
    case "--version":
      print(version());
      return 0;
    case "":
      process.stderr.write(overview(await allCommands()));
      return ownFailure;
    default:
      throw new ArgumentError("ERR_NONO_INVALID_ARGV", `There is no command ${name}`, {
        value: name,
        remedy: suggestion(name, commandNames) ?? "See nono --help.",
      });
  }
}

/** A rollback, or anyone else, may have taken the directory away in which the shell still is. */
function explainCwd(error: unknown): unknown {
  if ((error as NodeJS.ErrnoException).syscall !== "uv_cwd") return error;
  return new ArgumentError("ERR_NONO_INVALID_CWD", "The current directory is not there any more", {
    remedy: 'After nono rollback another one is in its place: cd "$PWD"',
    cause: error,
  });
}

/** On stderr for people; with `--json` for programs too: on stdout, unless that is the command's. */
async function tellError(error: unknown, [name = "", ...args]: readonly string[]): Promise<void> {
  const command = await commandNamed(name);
  if (asksForJson(command, args)) {
    const isOnStdout = !flagsOf(command).some((flag) => flag.name === "json-fd");
    if (isOnStdout) printJson(errorInJson(error));
    // What was found out later is reported where the result would be.
    else if (!wasParsed) process.stderr.write(`${toJson(errorInJson(error))}\n`);
  }
  if (!isRefusal(error)) {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stderr.write(`nono: ${printableLines(stack)}\n`);
    return;
  }
  tell(`${error.message} (${error.code})`);
  if (error.remedy) tell(error.remedy);
}

// The reader of a pipe has seen enough: nono … | head.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") return;
  process.stderr.write(`nono: stdout can't be written (${error.message})\n`);
  process.exit(ownFailure);
});
// There is nowhere left to tell of it; the exit status still says how it went.
process.stderr.on("error", () => {});

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  await tellError(explainCwd(error), process.argv.slice(2));
  process.exitCode = ownFailure;
}
