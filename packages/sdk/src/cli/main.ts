#!/usr/bin/env node
// The `nono` command. Prints nothing on stdout by itself except what was asked for (--help,
// --version): stdout belongs to the agent.
import process from "node:process";
import { NonoError } from "@nono/core";
import { usage, version } from "./help.ts";
import { runCommand } from "./run.ts";

/** Exit status for nono's own errors, as of env(1), nohup(1) and timeout(1) of GNU. */
const ownFailure = 125;

async function main([command, ...args]: string[]): Promise<number> {
  switch (command) {
    case "run":
      return runCommand(args);
    case "audit": {
      const { runAuditCommand } = await import("@nono/audit/cli");
      return runAuditCommand(args, {
        stdout: (text) => process.stdout.write(text),
        stderr: (text) => process.stderr.write(text),
      });
    }
    case "checkpoint":
    case "checkpoints":
    case "diff":
    case "rollback":
    case "commit":
    case "recover": {
      const { runRollbackCommand } = await import("@nono/rollback/cli");
      return runRollbackCommand([command, ...args], process);
    }
    case "--help":
    case "-h":
    case "help":
      process.stdout.write(usage);
      return 0;
    case "--version":
      process.stdout.write(`${version()}\n`);
      return 0;
    case undefined:
      process.stderr.write(usage);
      return ownFailure;
    default:
      process.stderr.write(`nono: there is no command ${JSON.stringify(command)}\n\n${usage}`);
      return ownFailure;
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof NonoError) {
    process.stderr.write(`nono: ${error.message} (${error.code})\n`);
    if (error.remedy !== "") process.stderr.write(`nono: ${error.remedy}\n`);
  } else {
    process.stderr.write(`nono: ${error instanceof Error ? error.stack : String(error)}\n`);
  }
  process.exitCode = ownFailure;
}
