import { readFileSync } from "node:fs";

/** What `nono --help` prints. */
export const usage = `Usage: nono run [flags] -- command [argument...]
       nono checkpoints | diff | rollback | commit | recover
       nono audit verify | show | tail | prove | redact | anchor | export | doctor

Runs a command with exactly the capabilities that the flags declare. What is not
declared is refused by the kernel.

  --allow-read PATH      let it read a file, or a directory with all below it
  --allow-write PATH     let it read and change a file or all below a directory
  --allow-exec PROGRAM   let it execute a program: a path, a directory, or a name
                         looked up in PATH (the command itself always may be)
  --allow-env NAME       pass a variable on; NAME* passes all that begin so
  --env NAME=VALUE       set a variable
  --allow-net HOST       let it reach a host: name, name:port, *.suffix, address or
                         range (through the gate of @nono/proxy)
  --credential NAME=HOST let it use the keychain's entry NAME (service "nono") at a
                         host, without ever having it
  --rollback             keep the state of the writable directories before the run,
                         for nono diff, nono rollback and nono commit
  --no-audit             put nothing on record
  --network MODE         "blocked" (default) or "open"
  --cwd PATH             its working directory (default: the current one)
  --timeout SECONDS      end it after this time: SIGTERM, then SIGKILL
  --limit NAME=NUMBER    memory, fileSize (bytes), processes, openFiles, cpuSeconds
  --tier TIER            "namespaces" or "flat" (default: the strongest that works)
  --allow-degraded NAME  accept that a guarantee can't be given on this machine
  --no-base-profile      don't add the system's libraries and the like to the
                         readable files
  --json                 report the result as one line of JSON on stderr
  --json-fd N            the same on file descriptor N
  --help, --version

Flags that name something may be repeated. Relative paths are taken from the
current directory.

Exit status: the command's own; 128+N when signal N ended it; 124 when --timeout
did; 125 for an error of nono itself.

Example:
  nono run --allow-read . --allow-write ./out --allow-exec git -- python3 agent.py
`;

/** The version of this package. */
export function version(): string {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}
