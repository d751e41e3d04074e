// Every block of TypeScript in the documents is compiled and run, every line of shell is run: in a directory
// that stands for /workspace, with a git repository and an agent in it.
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compile } from "./compile.ts";
import { type Block, blocks, root } from "./support.ts";

let directory: string;
let workspace: string;
let env: NodeJS.ProcessEnv;

beforeAll(() => {
  directory = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-docs-")));
  workspace = path.join(directory, "workspace");
  const bin = path.join(directory, "bin");
  for (const name of ["workspace/output", "workspace/project", "bin", "code", "node_modules"]) {
    mkdirSync(path.join(directory, name), { recursive: true });
  }
  const file = (name: string, text: string): void =>
    writeFileSync(path.join(workspace, name), text);
  file("README.md", "# A project\n");
  file("agent.py", "print('at work')\n");
  file("package.json", '{ "scripts": { "test": "node --version" } }');
  for (const name of ["root/app", "root/data/out"]) {
    mkdirSync(path.join(directory, name), { recursive: true });
  }
  file("../root/app/plugin.js", "export {};\n");
  file("../root/app/plugin.d.ts", "export {};\n");
  file("nono.jsonc", '{ "read": ["$WORKSPACE"] }');
  execFileSync("git", ["init", "--quiet", workspace]);
  // Stands for the agent: what it does is not what these documents are about.
  program(bin, "claude", "echo idea > notes.md; echo junk > junk.txt");
  program(bin, "nono", `exec ${process.execPath} ${root}/packages/sdk/bin/nono.js "$@"`);
  symlinkSync(path.join(root, "docs/node_modules"), path.join(directory, "code/node_modules"));
  env = {
    HOME: path.join(directory, "home"),
    // Without version managers' scripts in place of the programs.
    PATH: `${bin}:${path.dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`,
    NODE_NO_WARNINGS: "1",
  };
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function program(bin: string, name: string, script: string): void {
  writeFileSync(path.join(bin, name), `#!/bin/sh\n${script}\n`);
  chmodSync(path.join(bin, name), 0o755);
}

/** What a document has said before, or leaves to the reader. */
const before: Readonly<Record<string, string>> = {
  "docs/guides/core.md": `import type { Capabilities } from "@nono/core";
    const capabilities: Capabilities = {};
    const ask = async (question: string): Promise<string> => question;
    const [alert, log] = [console.log, console.log];`,
  "docs/guides/audit.md": `const id = "1";
    const witnessVkey = "w1+9a3a7d1f+BHr1zhqk0nHyWk2Y0Vvq1Yl0o0u0c9mJ0bqg0sYJ6Q0l";`,
  "packages/rollback/README.md": "async function runAgent(): Promise<void> {}",
};

/** The sandbox that a block goes on with. */
const sandboxBefore = `await using sandbox = await createSandbox({
  read: ["/workspace"], exec: ["python3", "bash", "npm", "node"] });`;

/** What is compiled and not run, and why. */
const notRun: Readonly<Record<string, string>> = {
  "setRawMode(true)": "needs a terminal",
  witnessVkey: "needs a witness",
  "of sandbox.events": "goes on for as long as the sandbox does",
};

const typescript = blocks("ts");

/** A block as a module of its own. */
function moduleOf({ document, code }: Block): string {
  const isFragment = /^\w+: \{/.test(code);
  const usesSandbox = /\bsandbox\b/.test(code) && !/(const|using) sandbox =/.test(code);
  const text = [
    before[document],
    usesSandbox && document.includes("core") ? sandboxBefore : "",
    isFragment ? `void ({ ${code} });` : code,
    "export {};",
  ].join("\n");
  const needsImport = /\bcreateSandbox\(/.test(text) && !/import \{[^}]*createSandbox/.test(text);
  const whole = needsImport ? `import { createSandbox } from "@nono/core";\n${text}` : text;
  return whole
    .replaceAll("/workspace", workspace)
    .replaceAll("/var/lib/nono", directory)
    .replaceAll(/"\/(app|data)\b/g, `"${directory}/root/$1`);
}

test("every block of TypeScript compiles", () => {
  for (const [at, block] of typescript.entries()) {
    writeFileSync(path.join(directory, "code", `${at}.ts`), moduleOf(block));
  }
  const { status, stdout } = compile(path.join(directory, "code"));
  const named = stdout.replaceAll(/(\d+)\.ts\((\d+)/g, (_, at: string, line: string) => {
    const block = typescript[Number(at)];
    return `${block?.document}:${block?.line} (+${line}`;
  });
  expect(status, named).toBe(0);
});

test.for(typescript.map((block, at) => [`${block.document}:${block.line}`, block, at] as const))(
  "%s runs",
  ([, block, at], { skip }) => {
    const reason = Object.entries(notRun).find(([text]) => block.code.includes(text))?.[1];
    if (reason !== undefined) skip(reason);
    const file = path.join(directory, "code", `${at}.ts`);
    const options = { cwd: workspace, env, encoding: "utf8", timeout: 240_000 } as const;
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], options);
    expect(status, stdout + stderr).toBe(0);
  },
);

/** Lines of shell that are not run as they are: another exit status, or why not at all. */
const lines: readonly (readonly [RegExp, number | string])[] = [
  [/^#|^$/, "no command"],
  [/^npx pnpm@|^cargo |^pnpm |^node examples|^npm i/, "the repository's own commands, run by CI"],
  [/npm install|pip install/, "needs a registry"],
  [/^nono keychain set/, "run by the tests of the sdk, with a keychain"],
  [/\/etc\/shadow/, 1],
];

const shell = blocks("sh").flatMap(({ document, line, code }) =>
  code.split("\n").map((command, at) => [`${document}:${line + at}`, command] as const),
);

test.for(
  shell.filter(
    ([, command]) => !lines.some(([, told]) => told === "no command" && /^(#|$)/.test(command)),
  ),
)("%s: %s", ([, command], { skip }) => {
  const expected = lines.find(([pattern]) => pattern.test(command))?.[1] ?? 0;
  if (typeof expected === "string") skip(expected);
  const options = { cwd: workspace, env, encoding: "utf8", timeout: 240_000, input: "" } as const;
  const { status, stdout, stderr } = spawnSync("sh", ["-c", command], options);
  expect(status, stdout + stderr).toBe(expected);
});
