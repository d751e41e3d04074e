// Each example, as a user runs it: by `node main.ts`. It exits with 0, and prints what it is about.
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";
import { support } from "../src/index.ts";
import { has } from "./support/nono.ts";
import { toolDirectory } from "./support/tools.ts";

const examples = path.resolve(import.meta.dirname, "../../../examples");

/** What each prints, and what it needs besides nono. */
const shown: Readonly<Record<string, { says: RegExp[]; needs?: string[]; gate?: true }>> = {
  "core-only": { says: [/wc -l notes.txt → 0 2/, /cat \/etc\/shadow → 1/, /touch notes.txt → 1/] },
  "sandboxed-agent": {
    says: [
      /token: ghp_/,
      /shadow → (Permission|Read-only)/,
      /code.py → /,
      /added .*report.txt/,
      /rollback: 0 files/,
    ],
    needs: ["python3", "git"],
    gate: true,
  },
  "many-agents": { says: [/20 agents in/, /its own task and no other/, /20 records/] },
  "custom-runner": {
    says: [/^ls → 0/m, /rm -rf . → refused/, /undone: notes.txt/],
    needs: ["python3"],
  },
  "mcp-server": {
    says: [/notes.txt: what the server is for/, /secret.txt: refused/, /shadow: refused/],
  },
  "git-push": {
    says: [/push .* → 0/, /saw the real token: true/, /environment has it: false/],
    needs: ["git"],
    gate: true,
  },
  "ci-job": { says: [/to be signed as this job: nono.local/, /the record: (INTACT|SIGNED)/] },
  "vercel-ai-sdk": { says: [/cat notes.txt → 0 buy milk/, /shadow → 1/, /model: The notes say/] },
  "openai-agents": {
    says: [/wc -l < data.csv → 0 2/, /echo x > data.csv → [12]/, /model: There are/],
  },
  langchain: { says: [/head -n 1 → 0 1/, /grep -c TOKEN → 1 0/, /model: The smallest is 1/] },
  "claude-agent-sdk": {
    says: [/hello.txt: hello/, /saw the real key: true/, /refused \/etc\/shadow: true/],
    needs: ["claude"],
    gate: true,
  },
};

/** Run by the tests of the packages that they are about, or a library. */
const elsewhere = /^(audit|proxy|rollback)-|^demo$|^model-server$/;

test("no example is left out", () => {
  const found = readdirSync(examples).filter((name) => !elsewhere.test(name));
  expect(Object.keys(shown)).toEqual(expect.arrayContaining(found));
});

const hasGate = support().tiers.some(({ available }) => available);
const claude = toolDirectory("claude");

test.for(Object.entries(shown))("%s", async ([name, { says, needs = [], gate }], { skip }) => {
  const missing = needs.some((program) =>
    program === "claude" && claude ? false : !has(program, `the example ${name}`),
  );
  if (missing || (gate && !hasGate)) skip();
  const temporary = mkdtempSync(path.join(tmpdir(), "nono-examples-"));
  const env = {
    ...process.env,
    PATH: `${claude ?? "/nowhere"}:${process.env["PATH"]}`,
    TMPDIR: temporary,
    XDG_STATE_HOME: path.join(temporary, "state"),
    NODE_NO_WARNINGS: "1",
  };
  const options = { cwd: path.join(examples, name), env, timeout: 240_000 };
  const { code, output } = await new Promise<{ code: unknown; output: string }>((resolve) => {
    execFile(process.execPath, ["main.ts"], options, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? 0, output: stdout + stderr });
    });
  });
  expect(code, output).toBe(0);
  for (const pattern of says) expect(output).toMatch(pattern);
  const left = readdirSync(temporary).filter((entry) => entry.startsWith("nono-"));
  expect(left, "left behind").toEqual([]);
  rmSync(temporary, { recursive: true, force: true });
});
