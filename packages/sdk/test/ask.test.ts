// `nono run --ask`, answered on a real terminal.
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { support } from "../src/index.ts";
import { has, main } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";
import { onTerminal, type Step } from "./support/terminal.ts";

useOwnState();

const tiers = support()
  .tiers.filter(({ available }) => available)
  .map(({ name }) => name);
const prompt = "eny it? ";

/** How often the person was asked. */
function questions(shown: string): number {
  return shown.split(prompt).length - 1;
}

// Not below /tmp: the tier namespaces has another one.
let directory: string;
let workspace: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync("/var/tmp/nono-ask-"));
  workspace = path.join(directory, "work");
  mkdirSync(workspace);
  writeFileSync(path.join(directory, "one"), "the first\n");
  writeFileSync(path.join(directory, "two"), "the second\n");
  writeFileSync(
    path.join(workspace, "nono"),
    `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`,
    {
      mode: 0o755,
    },
  );
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe.runIf(has("script", "nono run --ask")).for(tiers)("in the tier %s", (tier) => {
  /** Runs a script of sh with --ask; `streams` are redirections of the whole, `more` other flags. */
  function ask(
    script: string,
    steps: readonly Step[],
    { streams = "", more = "" } = {},
  ): Promise<string> {
    writeFileSync(path.join(workspace, "script"), script);
    const flags = `--ask --no-audit --tier ${tier} -p shell --allow-read . ${more}`;
    const line = `./nono run ${flags} -- sh script ${streams}; echo status $?; stty -a`;
    return onTerminal(line, steps, { cwd: workspace });
  }
  test("once is for once, session for all, deny for all", async () => {
    const script = "cat ../one; cat ../one; cat ../one; cat ../two; cat ../two; exit 0";
    const shown = await ask(script, [
      [prompt, "once\r"],
      [prompt, "s\r"],
      [prompt, "d\r"],
    ]);
    expect(shown.match(/the first/g)).toHaveLength(3);
    expect(shown).not.toContain("the second");
    expect(questions(shown)).toBe(3);
    expect(shown).toContain(`wants to read ${directory}/one`);
    expect(shown).toContain(`would pass with --allow-read ${directory}/one`);
    expect(shown, "the terminal is as it was").toMatch(/ icanon .* echo /s);
  });

  test("what is typed is the command's before and after, and nothing of a question is", async () => {
    const script = `echo ready; read a; echo "a=$a"; cat ../one; read b; echo "b=$b"`;
    const shown = await ask(script, [
      ["ready", "before\r"],
      [prompt, "s\r"],
      ["the first", "after\r"],
    ]);
    expect(shown).toContain("a=before");
    expect(shown).toContain("b=after");
  });

  test("stdout and stdin that are not the terminal stay the command's own", async () => {
    writeFileSync(path.join(workspace, "input"), "from a file\n");
    const shown = await ask("cat; cat ../one", [[prompt, "o\r"]], {
      streams: "<input >output 2>errors",
    });
    expect(questions(shown)).toBe(1);
    expect(readFileSync(path.join(workspace, "output"), "utf8")).toBe("from a file\nthe first\n");
    expect(readFileSync(path.join(workspace, "errors"), "utf8")).toBe("");
    const mixed = await ask(
      `echo ready >&2; read a; echo "a=$a"; cat ../two`,
      [
        ["ready", "typed\r"],
        [prompt, "o\r"],
      ],
      { streams: ">output" },
    );
    expect(mixed).not.toContain("the second");
    expect(readFileSync(path.join(workspace, "output"), "utf8")).toBe("a=typed\nthe second\n");
  });

  test("what is typed before there is time to read is no answer", { retry: 2 }, async () => {
    const shown = await ask("cat ../one; exit 0", [
      ["wants to read", "s\r"],
      [prompt, "d\r"],
    ]);
    expect(shown).not.toContain("the first");
  });

  test("another word is asked again; Ctrl-C refuses and ends the command", async () => {
    const shown = await ask("cat ../one; sleep 60; exit 0", [
      [prompt, "yes\r"],
      [prompt, "\u0003"],
    ]);
    expect(questions(shown)).toBe(2);
    expect(shown).toContain("status 130");
    expect(shown).not.toContain("the first");
  });

  test("a command that is ended takes its question along", async () => {
    const shown = await ask("cat ../one; exit 0", [], { more: "--timeout 6" });
    expect(questions(shown)).toBe(1);
    expect(shown).toContain("there was no answer, so it is refused");
    expect(shown).toContain("status 124");
    expect(shown, "the terminal is as it was").toMatch(/ icanon .* echo /s);
  });

  test("what nobody should allow is named as such", async () => {
    writeFileSync(path.join(directory, "id_ed25519"), "a key\n");
    const shown = await ask("cat ../id_ed25519; exit 0", [[prompt, "d\r"]]);
    expect(shown).toContain("better not allowed: it is, or holds, a secret");
  });

  test("a name can't hide the question", async () => {
    const name = "\u001B[2Kname\u202E";
    writeFileSync(path.join(directory, name), "hidden\n");
    const shown = await ask(`cat '../${name}'; exit 0`, [[prompt, "d\r"]]);
    expect(shown).toContain(String.raw`wants to read ${directory}/\u{1b}[2Kname\u{202e}`);
    const question = shown.slice(shown.indexOf("wants to"), shown.indexOf(prompt));
    expect(question).not.toContain("\u001B");
  });

  test("a name can't push the question away, nor go on as if nono said it", async () => {
    const deep = Array.from({ length: 13 }, (_, level) => `${level}`.padEnd(250, "x")).join("/");
    const blanks = `a${" ".repeat(90)}nono:${"\u3000\u2003\u3164\u2800".repeat(12)}z`;
    const file = path.join(directory, deep, blanks);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, "deep\n");
    const shown = await ask(`cat '${file}'; exit 0`, [[prompt, "d\r"]]);
    const question = shown.slice(shown.indexOf("nono: "), shown.indexOf("[o]nce"));
    expect(Math.ceil(question.length / 80)).toBeLessThan(20);
    expect(question).toContain(`wants to read ${directory}/0xxx`);
    expect(question).toMatch(/x \[\d+ characters\] .*z\r?\n/);
    expect(question).not.toMatch(/\p{Zs}{4}|[\u3000\u3164\u2800]/u);
  });

  test("no state of the terminal hides the question", async () => {
    const hide = String.raw`printf '\033[24;24r\033[?6h\033[?7l\033[8m\033(0\033[?25l'`;
    // What has not been shown when there is a question waits until it is answered.
    const shown = await ask(`${hide}; sleep 1; cat ../one; exit 0`, [[prompt, "d\r"]]);
    const before = shown.slice(shown.lastIndexOf("\u001B[24;24r"), shown.indexOf("nono: /"));
    // All lines scroll again, and are wrapped; then plain letters, where nothing is below.
    const spelt = before.replaceAll("\u001B", "^").replaceAll("\u000F", "~").replaceAll("\r", "");
    expect(spelt).toMatch(/\^\[r\^8\^\[\?7h.*\^\[0m\^\(B~\n\^\[J$/s);
  });

  test("what was allowed for the session is allowed for no name that only looks the same", async () => {
    for (const name of ["\\377", "\\376"]) {
      const made = ["-c", `printf '${name}\n' > "$(printf '../${name}')"`];
      spawnSync("sh", made, { cwd: workspace });
    }
    const read = String.raw`cat "$(printf '../\377')" && cat "$(printf '../\376')"; exit 0`;
    const shown = await ask(read, [
      [prompt, "s\r"],
      [prompt, "d\r"],
    ]);
    expect(questions(shown)).toBe(2);
  });

  test("a unix socket is asked about", async () => {
    const server = createServer((socket) => socket.end("from the server\n"));
    const socket = path.join(directory, "socket");
    server.listen(socket);
    await once(server, "listening");
    const python = `import socket; s = socket.socket(socket.AF_UNIX); s.connect("${socket}"); print(s.recv(99).decode())`;
    const flags = `--ask --no-audit --tier ${tier} -p python --allow-read .`;
    const line = `./nono run ${flags} -- python3 -c '${python}'`;
    const shown = await onTerminal(line, [[prompt, "o\r"]], { cwd: workspace });
    server.close();
    expect(shown).toContain(`wants to connect ${socket}`);
    expect(shown).toContain("from the server");
  });

  test.runIf(tier === "namespaces")("a program is asked about", async () => {
    writeFileSync(path.join(directory, "program"), "#!/bin/sh\necho it ran\n", { mode: 0o755 });
    const shown = await ask("../program; ../program", [
      [prompt, "o\r"],
      [prompt, "d\r"],
    ]);
    expect(shown).toContain(`wants to execute ${directory}/program`);
    expect(shown.match(/it ran/g)).toHaveLength(1);
  });

  test.runIf(tier === "flat")("a connection is asked about", async () => {
    // TEST-NET-1 (RFC 5737), and the answer is no. Some network, or there would be no socket to connect.
    const python = `import socket; socket.create_connection(("192.0.2.1", 443), 5)`;
    const flags = `--ask --no-audit --tier ${tier} -p python --allow-read . --allow-localhost 9`;
    const line = `./nono run ${flags} -- python3 -c '${python}'`;
    const shown = await onTerminal(line, [[prompt, "d\r"]], { cwd: workspace });
    expect(shown).toContain("wants to connect 192.0.2.1:443");
    expect(shown).toContain("nono: 1 attempt was refused");
  });
});

test("without a terminal there is nobody to ask: 125", () => {
  const args = [
    "--wait",
    process.execPath,
    main,
    "run",
    "--ask",
    "--allow-read",
    ".",
    "--",
    "true",
  ];
  const { status, stdout, stderr } = spawnSync("setsid", args, { cwd: "/", encoding: "utf8" });
  expect({ status, stdout }).toEqual({ status: 125, stdout: "" });
  expect(stderr).toContain("ERR_NONO_INVALID_OPTION");
  expect(stderr).toContain("--ask needs a terminal");
});
