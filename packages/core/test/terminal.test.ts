import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import type { SandboxedProcess } from "../src/index.ts";
import { eventually } from "./processes.ts";
import { sandboxIn, tiers, tools, Workspace } from "./workspace.ts";

const exec = [...tools, "bash", "stty", "tty", "/usr/bin", "/bin"];

/** What a terminal has shown, and a way to wait for more of it. */
class Screen {
  readonly terminal: Duplex;
  text = "";

  constructor(child: SandboxedProcess) {
    this.terminal = child.terminal!;
    this.terminal.on("data", (chunk: Buffer) => (this.text += chunk.toString()));
    this.terminal.on("error", () => {});
  }

  /** Waits for something to be shown, and forgets what came before. */
  async shows(text: string): Promise<void> {
    if (!(await eventually(() => this.text.includes(text)))) {
      throw new Error(`not shown: ${JSON.stringify(text)}, but ${JSON.stringify(this.text)}`);
    }
    this.text = this.text.slice(this.text.indexOf(text) + text.length);
  }
}

test.for(tiers)("bash runs interactively, with job control (%s)", async (tier) => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { exec }, { tier });
  const child = sandbox.spawn(["bash", "--norc", "--noprofile", "-i"], {
    pty: { columns: 100, rows: 30 },
    env: { PS1: "ready> " },
  });
  const screen = new Screen(child);
  const { terminal } = screen;
  await screen.shows("ready> ");
  terminal.write("tty; stty size; echo $TERM\r");
  await screen.shows("/dev/pts/");
  await screen.shows("30 100");
  child.resize(120, 40);
  await screen.shows("ready> ");
  terminal.write("stty size\r");
  await screen.shows("40 120");
  await screen.shows("ready> ");
  terminal.write("bash -c 'echo \"beg\"un; sleep 60'\r");
  await screen.shows("begun");
  terminal.write("\u001A"); // Ctrl-Z
  await screen.shows("Stopped");
  terminal.write("fg\r");
  await screen.shows("fg\r\n");
  await screen.shows("sleep 60");
  await delay(100);
  terminal.write("\u0003"); // Ctrl-C
  await screen.shows("ready> ");
  terminal.write("exit 7\r");
  expect(await child.exited).toMatchObject({ exitCode: 7, signal: null });
  if (!terminal.closed) await once(terminal, "close");
});

test.for(tiers)("the python REPL answers (%s)", async (tier) => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { exec }, { tier });
  const child = sandbox.spawn(["/usr/bin/python3", "-q"], { pty: true });
  const screen = new Screen(child);
  await screen.shows(">>> ");
  screen.terminal.write("import sys; sys.stdin.isatty(), 6 * 7\r");
  await screen.shows("(True, 42)");
  screen.terminal.write("import time; print('beg' + 'un'); time.sleep(60)\r");
  await screen.shows("begun");
  screen.terminal.write("\u0003");
  await screen.shows("KeyboardInterrupt");
  await screen.shows(">>> ");
  screen.terminal.write("print('la' + 'st')\r");
  await screen.shows("last");
  await screen.shows(">>> ");
  screen.terminal.end();
  expect(await child.exited).toMatchObject({ exitCode: 0 });
});

test.for(tiers)("vim edits a file on its terminal (%s)", async (tier, { skip }) => {
  if (!existsSync("/usr/bin/vim") && !existsSync("/usr/bin/vi")) {
    console.log("SKIPPED: vim on a terminal: vim is not installed");
    skip();
  }
  const vim = existsSync("/usr/bin/vim") ? "/usr/bin/vim" : "/usr/bin/vi";
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { exec }, { tier });
  const file = workspace.at("file");
  const scripted = await sandbox.run([vim, "-es", "-u", "NONE", file], {
    pty: true,
    input: "i\nscripted\n.\nwq\n",
  });
  expect(scripted.exitCode).toBe(0);
  expect(readFileSync(file, "utf8")).toBe("scripted\n");
  const child = sandbox.spawn([vim, "-u", "NONE", file], { pty: true });
  const screen = new Screen(child);
  await screen.shows("scripted");
  screen.terminal.write("Otyped\u001B:wq\r");
  expect(await child.exited).toMatchObject({ exitCode: 0 });
  expect(readFileSync(file, "utf8")).toBe("typed\nscripted\n");
});

test.for(tiers)("run collects all that a terminal shows (%s)", async (tier) => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { exec }, { tier });
  for (let round = 0; round < 20; round++) {
    const script = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; echo err >&2";
    const { stdout, stderr } = await sandbox.run(["sh", "-c", script], { pty: true });
    expect(stdout.split("\r\n")).toHaveLength(5002);
    expect(stdout).toMatch(/line 4999\r\nerr\r\n$/);
    expect(stderr).toBe("");
  }
});

test("run types its input, and then the end of it", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { exec });
  const run = (input?: string) =>
    sandbox.run(["sh", "-c", "stty -echo; wc -c"], {
      pty: true,
      timeout: 20_000,
      ...(input !== undefined && { input }),
    });
  expect((await run("four\n")).stdout).toContain("5\r\n");
  expect((await run("no end of line")).stdout).toContain("14\r\n");
  expect((await run()).stdout).toContain("0\r\n");
});

test("who does not read makes the command wait, and memory stays bounded", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { exec });
  const script =
    "i=0; while :; do i=$((i+1)); echo $i > count; echo xxxxxxxxxxxxxxxxxxxxxxxxxx; done";
  const child = sandbox.spawn(["sh", "-c", script], { pty: true, cwd: workspace.path });
  const count = (): number => Number(readFileSync(workspace.at("count"), "utf8") || 0);
  await child.started;
  let before = -1;
  // It has come to a halt when it makes no step for half a second.
  for (let turns = 0; turns < 40; turns++) {
    await delay(500);
    const now = count();
    if (now > 0 && now === before) break;
    before = now;
  }
  expect(count()).toBe(before);
  expect(child.terminal!.readableLength).toBeLessThan(1024 * 1024);
  child.terminal!.resume();
  expect(await eventually(() => count() > before)).toBe(true);
});

test("who types faster than the command reads is told to wait", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { exec });
  const child = sandbox.spawn(["sh", "-c", "stty raw -echo; echo armed; sleep 1; exec wc -c"], {
    pty: true,
  });
  const screen = new Screen(child);
  await screen.shows("armed");
  const { terminal } = screen;
  const chunk = Buffer.alloc(16 * 1024, "x");
  let accepted = 0;
  while (terminal.write(chunk)) accepted += chunk.length;
  expect(accepted).toBeLessThan(2 * 1024 * 1024);
  await once(terminal, "drain");
  child.kill("SIGKILL");
  expect(await child.exited).toMatchObject({ signal: "SIGKILL" });
});

test.for(tiers)("destroying the terminal hangs up (%s)", async (tier) => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { exec }, { tier });
  const child = sandbox.spawn(["sh", "-c", "echo begun; sleep 60; true"], { pty: true });
  const screen = new Screen(child);
  await screen.shows("begun");
  screen.terminal.destroy();
  expect(await child.exited).toMatchObject({ exitCode: null, signal: "SIGHUP" });
  child.resize(10, 10);
});

test("a terminal that nobody read ends with the sandbox", async () => {
  using workspace = new Workspace();
  const sandbox = await sandboxIn(workspace, { exec });
  const child = sandbox.spawn(["sh", "-c", "echo unread; sleep 60"], { pty: true });
  await child.started;
  await sandbox.close();
  expect(await child.exited).toMatchObject({ signal: "SIGKILL" });
  expect(child.terminal!.destroyed).toBe(true);
});

test("a terminal excludes stdio, and has a size that exists", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const code = "ERR_NONO_INVALID_OPTION";
  const refused = (options: object): unknown => {
    try {
      return sandbox.spawn(["true"], options);
    } catch (error) {
      return error;
    }
  };
  expect(refused({ pty: true, stdio: "ignore" })).toMatchObject({ code });
  expect(refused({ pty: { columns: 0, rows: 24 } })).toMatchObject({ code });
  expect(refused({ pty: { columns: 80 } })).toMatchObject({ code });
  expect(refused({ pty: { columns: 65_536, rows: 24 } })).toMatchObject({ code });
  expect(refused({ pty: "yes" })).toMatchObject({ code });
  await expect(sandbox.run(["true"], { pty: true, stdout: "ignore" })).rejects.toMatchObject({
    code,
  });
  const child = sandbox.spawn(["true"]);
  expect(child.terminal).toBeNull();
  child.resize(1, 1);
  expect(() => child.resize(-1, 1)).toThrow(expect.objectContaining({ code }));
});
