// The API reference: complete, with an example for everything that can be called, and each of them compiles.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Export, examplesOf, exportsOf, needsExample, type Reflection } from "./api.ts";
import { compile } from "./compile.ts";
import { root } from "./support.ts";

let directory: string;
let api: Export[];

beforeAll(() => {
  directory = mkdtempSync(path.join(tmpdir(), "nono-api-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("every export is documented, and every link in comments resolves: TypeDoc has no warnings", () => {
  const typedoc = path.join(root, "docs/node_modules/.bin/typedoc");
  const json = path.join(directory, "api.json");
  const args = ["--out", path.join(directory, "site"), "--json", json];
  const options = { cwd: path.join(root, "docs"), encoding: "utf8" } as const;
  const { status, stdout, stderr } = spawnSync(typedoc, args, options);
  expect(status, stdout + stderr).toBe(0);
  api = exportsOf(JSON.parse(readFileSync(json, "utf8")) as Reflection);
  expect(api.length).toBeGreaterThan(100);
});

test("everything that can be called has an example", () => {
  const without = api
    .filter(({ reflection }) => needsExample(reflection) && examplesOf(reflection).length === 0)
    .map(({ from, reflection }) => `${from}: ${reflection.name}`);
  expect(without).toEqual([]);
});

/** Where names are from that are no package's of ours. */
const builtins: Readonly<Record<string, string>> = {
  "node:child_process": "spawn",
  "node:crypto": "createPrivateKey generateKeyPairSync sign",
  "node:fs": "readFileSync writeFileSync",
  "node:util": "promisify",
};

/** What an example leaves to the reader, by its package. */
const given: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "@nono/core": {
    ask: "(question: string) => Promise<string>",
    capabilities: 'import("@nono/core").Capabilities',
    gate: 'import("@nono/proxy").Gate',
    log: 'import("node:fs").WriteStream',
    logs: 'import("node:fs").ReadStream',
    sandbox: 'import("@nono/core").Sandbox',
    server: 'import("node:net").Server',
  },
  "@nono/proxy": { fd: "number", token: "string" },
  "@nono/rollback": {
    before: 'import("@nono/rollback").Checkpoint',
    runAgent: "() => Promise<void>",
  },
  "@nono/audit": {
    checkpoint: "string",
    dir: "string",
    entry: "Buffer",
    event: 'import("@nono/audit").NonoEvent',
    first: "Buffer",
    key: "string",
    keys: "string[]",
    kms: "{ signEd25519(text: Buffer): Promise<Buffer> }",
    log: 'import("@nono/audit").AuditLog',
    notary: '{ cosign(note: string): Promise<import("@nono/audit").NoteSignature[]> }',
    origin: "string",
    pem: "string",
    privateKey: 'import("node:crypto").KeyObject',
    refuseTheAction: "() => void",
    second: "Buffer",
    seed: "Buffer",
    signer: 'import("@nono/audit").CheckpointSigner',
    trustedRoot: "string",
    vkey: "string",
    webhook: "string",
  },
  "@nono/audit/export": {
    collector: "string",
    entries: 'import("@nono/audit").Entry[]',
    entry: 'import("@nono/audit").Entry',
    headers: "Record<string, string>",
    siem: "{ send(event: object): void }",
  },
  "@nono/sdk": { sandbox: 'import("@nono/sdk").Sandbox' },
};

/** What an example imports and nobody has here. */
const modules = `declare module "@napi-rs/keyring/keytar" {
  export function getPassword(service: string, account: string): Promise<string | null>;
  export function setPassword(service: string, account: string, password: string): Promise<void>;
}
`;

/** An example as a module: with what it needs imported, and the rest declared. */
function moduleOf(from: string, code: string): string {
  const name = from.split("/").slice(0, 2).join("/");
  const isFree = (word: string): boolean =>
    new RegExp(String.raw`(?<![\w.])${word}\b(?!["':])`).test(code.replaceAll(/"[^"]*"/g, '""')) &&
    !new RegExp(String.raw`\b(const|using|function) ${word}\b`).test(code) &&
    !new RegExp(String.raw`\b(const|using) [{[(][^}\])=]*\b${word}\b`).test(code);
  const ours = api
    .filter((one) => one.from === name || one.from.startsWith(`${name}/`))
    .map((one) => [one.reflection.name, one.from] as const);
  const theirs = Object.entries(builtins).flatMap(([module, names]) =>
    names.split(" ").map((word) => [word, module] as const),
  );
  const lines = [...new Map([...ours, ...theirs])]
    .filter(([word]) => isFree(word))
    .map(([word, module]) => `import { ${word} } from ${JSON.stringify(module)};`);
  const stands = Object.entries({ ...given[name], ...given[from] })
    .filter(([word]) => isFree(word))
    .map(([word, type]) => `declare const ${word}: ${type};`);
  // A program of the reader's own; declarations of modules have no absolute paths.
  const own = code.replace("/app/plugin.js", "node:process");
  return [...lines, ...stands, own, "export {};", ""].join("\n");
}

test("every example compiles", () => {
  mkdirSync(path.join(directory, "code"));
  symlinkSync(path.join(root, "docs/node_modules"), path.join(directory, "code/node_modules"));
  const names: string[] = [];
  const seen = new Set<string>();
  for (const { from, reflection } of api) {
    for (const code of examplesOf(reflection)) {
      // Of the same thing under another name, or exported once more.
      if (seen.has(code)) continue;
      seen.add(code);
      writeFileSync(path.join(directory, "code", `${names.length}.ts`), moduleOf(from, code));
      names.push(`${from}: ${reflection.name}`);
    }
  }
  expect(names.length).toBeGreaterThan(100);
  writeFileSync(path.join(directory, "code/modules.d.ts"), modules);
  const code = path.join(directory, "code");
  const { status, stdout } = compile(code, { verbatimModuleSyntax: false });
  const named = stdout.replaceAll(/^.*?(\d+)\.ts/gm, (_, at: string) => names[Number(at)] ?? at);
  expect(status, named).toBe(0);
});
