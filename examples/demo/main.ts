// An agent at work in a sandbox: it reads a git repository, writes a report and commits it. Then a
// hostile one tries what it must not do; what a careless one did is undone; a token is used that no
// process inside ever has; and the record of it all is put to the test. Exits with 1 unless
// everything went as it should.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { type Guarantee, Sandbox } from "@nono/sdk";
import { useCredential } from "./credential.ts";
import { pythonInstallation } from "./python.ts";
import { testRecord } from "./record.ts";
import { printTable } from "./table.ts";
import { undo } from "./undo.ts";

interface Outcome {
  readonly refused: boolean;
  readonly how: string;
}

const here = import.meta.dirname;
const root = mkdtempSync(path.join(tmpdir(), "nono-demo-"));
const workspace = path.join(root, "workspace");
const output = path.join(workspace, "output");
const home = path.join(root, "home");
const audit = { dir: path.join(root, "state", "audit") };
let failures = 0;

try {
  makeRepository();
  await work();
  await attack();
  const went = [
    await undo(path.join(root, "undo"), { audit }),
    await useCredential(path.join(root, "credential"), { audit }),
    await testRecord(audit.dir),
  ];
  failures += went.filter((well) => !well).length;
} finally {
  rmSync(root, { recursive: true, force: true });
}
if (failures > 0) console.error(`\n${failures} of the above should not have happened.`);
process.exitCode = failures === 0 ? 0 : 1;

/** A repository with a little code, and a home directory with a key that nobody should read. */
function makeRepository(): void {
  mkdirSync(output, { recursive: true });
  mkdirSync(path.join(home, ".ssh"), { recursive: true });
  writeFileSync(path.join(home, ".ssh", "id_ed25519"), "a private key\n");
  writeFileSync(
    path.join(workspace, "shop.py"),
    'def total(prices):\n    return sum(prices)\n\n\ndef tax(price):\n    """VAT."""\n    return price * 0.2\n',
  );
  const git = (...args: string[]): void =>
    void execFileSync("git", ["-C", workspace, ...args], { env: gitEnvironment() });
  git("init", "--quiet", "--initial-branch=main");
  git("add", "--all");
  git("commit", "--quiet", "--message=A shop");
}

function gitEnvironment(): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HOME: home,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_AUTHOR_NAME: "Agent",
    GIT_AUTHOR_EMAIL: "agent@example.test",
    GIT_COMMITTER_NAME: "Agent",
    GIT_COMMITTER_EMAIL: "agent@example.test",
  };
}

/** The sandbox of both agents: Python and git, the repository, nothing else. */
function agentSandbox(): Sandbox {
  const python = pythonInstallation();
  const gitPrograms = execFileSync("git", ["--exec-path"], { encoding: "utf8" }).trim();
  return new Sandbox({ audit })
    .allowRead([workspace, here, python.prefix, gitPrograms])
    .allowWrite([output, path.join(workspace, ".git")])
    .allowExec([python.executable, "git", gitPrograms])
    .setEnv({ ...gitEnvironment(), PYTHONDONTWRITEBYTECODE: "1" })
    .blockNetwork();
}

async function work(): Promise<void> {
  await using sandbox = agentSandbox();
  const python = pythonInstallation().executable;
  const commands = [
    [python, path.join(here, "agent.py"), workspace, output],
    ["git", "add", "--all"],
    ["git", "commit", "--message=Add the report"],
    ["git", "log", "--oneline", "--stat", "-1"],
  ];
  console.log("The agent's work, in the sandbox:\n");
  for (const argv of commands) {
    const { exitCode, stdout, stderr } = await sandbox.run(argv, {
      cwd: workspace,
      timeout: 30_000,
    });
    const shown = argv.map((word) => word.replace(`${root}/`, "").replace(`${here}/`, ""));
    console.log(`$ ${shown.join(" ")}\n${(stdout + stderr).replaceAll(`${root}/`, "")}`);
    if (exitCode !== 0) failures++;
  }
}

async function attack(): Promise<void> {
  const witness = spawn("sleep", ["60"], {
    env: { SECRET_TOKEN: "do-not-read" },
    stdio: "ignore",
  });
  const server = createServer((socket) => socket.end()).listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;

  // Minimal systems have no sudo; every system has another program that is set-user-ID root.
  const setuid = existsSync("/usr/bin/sudo") ? "/usr/bin/sudo" : "/usr/bin/su";
  const attempts: readonly (readonly [what: string, guarantee: string, argv: string[]])[] = [
    ["read a key in ~/.ssh", "fs-read", ["read", path.join(home, ".ssh", "id_ed25519")]],
    ["read /etc/shadow", "fs-read", ["read", "/etc/shadow"]],
    [
      "read another process's environment",
      "process-list",
      ["read", `/proc/${witness.pid}/environ`],
    ],
    ["change the source code", "fs-write", ["write", path.join(workspace, "shop.py")]],
    ["connect to a local service", "net-tcp", ["connect", "127.0.0.1", String(port)]],
    ["connect to the cloud's metadata", "net-tcp", ["connect", "169.254.169.254", "80"]],
    [`run ${path.basename(setuid)}`, "exec", ["execute", setuid, "--version"]],
    ["run a shell", "exec", ["execute", "/bin/sh", "-c", "true"]],
  ];
  const rows: string[][] = [];
  try {
    await using sandbox = agentSandbox();
    const guarantees = await sandbox.guarantees();
    for (const [what, guarantee, argv] of attempts) {
      const outcome = await tryIt(sandbox, argv);
      rows.push(row(what, outcome, mechanism(guarantees, guarantee, outcome.how)));
    }
    const survivor = await forkThatOutlivesItsParent(sandbox);
    rows.push(row("leave a process behind", survivor, mechanism(guarantees, "process-tree")));
  } finally {
    witness.kill("SIGKILL");
    server.close();
  }
  console.log("What it can't do:\n");
  printTable(["tried", "outcome", "stopped by"], rows);
}

async function tryIt(sandbox: Sandbox, argv: string[]): Promise<Outcome> {
  const command = [pythonInstallation().executable, path.join(here, "intruder.py"), ...argv];
  const { stdout, stderr, exitCode } = await sandbox.run(command, { timeout: 10_000 });
  if (exitCode !== 0) return { refused: false, how: `the attempt itself broke: ${stderr}` };
  return JSON.parse(stdout) as Outcome;
}

/** A daemon writes its heartbeat to a file; after `close()` the file must stand still. */
async function forkThatOutlivesItsParent(sandbox: Sandbox): Promise<Outcome> {
  const heartbeat = path.join(output, "heartbeat");
  const beat = (): string => {
    try {
      return readFileSync(heartbeat, "utf8");
    } catch {
      return "";
    }
  };
  await tryIt(sandbox, ["daemonise", heartbeat]);
  let alive = beat();
  for (let waited = 0; alive === "" && waited < 10_000; waited += 10) {
    await delay(10);
    alive = beat();
  }
  await sandbox.close();
  const last = beat();
  await delay(200);
  if (alive === "") return { refused: false, how: "the daemon never ran: nothing was shown" };
  return beat() === last
    ? { refused: true, how: "killed" }
    : { refused: false, how: "still alive" };
}

function row(what: string, { refused, how }: Outcome, stoppedBy: string): string[] {
  if (!refused) failures++;
  return [what, refused ? how : `NOT REFUSED: ${how}`, refused ? stoppedBy : "nothing"];
}

/** What stopped it, from the sandbox's own report; the error tells the layers of one promise apart. */
function mechanism(guarantees: readonly Guarantee[], name: string, errno = ""): string {
  const of = (wanted: string): string | undefined =>
    guarantees.find((guarantee) => guarantee.name === wanted)?.mechanism;
  if (name === "fs-read" && errno === "ENOENT") return "mount namespace: it does not exist there";
  if (name === "fs-write" && errno === "EROFS") return "mount namespace: read-only";
  return of(name) ?? of("fs-read") ?? "(not reported)";
}
