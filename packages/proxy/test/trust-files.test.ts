// The directory of the trust files ends with its gate: also when the process was killed, by the next gate.
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createGate } from "../src/index.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "nono-trust-"));
  vi.stubEnv("TMPDIR", directory);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true, force: true });
});

const left = (): string[] => readdirSync(directory).filter((name) => name.startsWith("nono-gate"));

async function useGate(): Promise<void> {
  await using gate = createGate({ allow: [] });
  expect(existsSync(gate.trustFiles.bundle)).toBe(true);
}

/** The directory of a process that was killed. */
async function killed(): Promise<string> {
  const source = path.resolve(import.meta.dirname, "../src/index.ts");
  const script = `import { createGate } from ${JSON.stringify(source)};
    console.log(createGate({ allow: [] }).trustFiles.directory);
    setInterval(() => {}, 1000);`;
  const args = ["--input-type=module", "-e", script];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [printed] = (await once(child.stdout, "data")) as [Buffer];
  child.kill("SIGKILL");
  await once(child, "close");
  return printed.toString().trim();
}

test("a closed gate leaves nothing, a killed one nothing beyond the next", async () => {
  await useGate();
  expect(left()).toEqual([]);
  expect(existsSync(await killed())).toBe(true);
  await useGate();
  expect(left()).toEqual([]);
});

test("that of a live gate is left alone", async () => {
  await using gate = createGate({ allow: [] });
  const { directory: own } = gate.trustFiles;
  await useGate();
  expect(left()).toEqual([path.basename(own)]);
  expect(existsSync(gate.trustFiles.wgetrc)).toBe(true);
});

test("no link is followed, and nothing but trust files is deleted", async () => {
  const stale = await killed();
  const precious = path.join(directory, "precious");
  mkdirSync(precious);
  for (const name of ["ca.pem", "other"]) writeFileSync(path.join(precious, name), "");
  renameSync(stale, path.join(directory, "moved"));
  symlinkSync(precious, stale);
  await useGate();
  expect(readdirSync(precious)).toEqual(["ca.pem", "other"]);
  rmSync(stale);
  renameSync(precious, stale);
  await useGate();
  expect(readdirSync(stale)).toEqual(["other"]);
});
