// The directory of the trust files ends with its gate: also when the process was killed, by the next gate.
import { spawn } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
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

/** The certificates of a Java key store, DER, if its digest is right. */
function certificatesOf(store: Buffer): Buffer[] {
  const body = store.subarray(0, -20);
  const digest = createHash("sha1")
    .update(Buffer.from("changeit", "utf16le").swap16())
    .update("Mighty Aphrodite")
    .update(body);
  expect(store.subarray(-20)).toEqual(digest.digest());
  let at = 0;
  const uint = (size: number): number => body.readUIntBE((at += size) - size, size);
  const bytes = (size: number): Buffer => body.subarray(at, (at += size));
  expect([uint(4), uint(4)]).toEqual([0xfeedfeed, 2]);
  const certificates = Array.from({ length: uint(4) }, (_, index) => {
    expect([uint(4), bytes(uint(2)).toString()]).toEqual([2, `nono${index}`]);
    expect(Math.abs(Number(bytes(8).readBigUInt64BE()) - Date.now())).toBeLessThan(60_000);
    expect(bytes(uint(2)).toString()).toBe("X.509");
    return bytes(uint(4));
  });
  expect(at).toBe(body.length);
  return certificates;
}

test("the Java key store has the bundle's certificates, however they were written", async () => {
  await using other = createGate({ allow: [] });
  const pem = readFileSync(other.trustFiles.certificate, "utf8").trim();
  const ca = [pem, `A root of ours\n${pem}`, pem.replaceAll(" CERTIFICATE", " X509 CERTIFICATE")];
  await using gate = createGate({ allow: [], tls: { ca } });
  const bundle = readFileSync(gate.trustFiles.bundle, "utf8");
  const written = bundle.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g) ?? [];
  const certificates = certificatesOf(readFileSync(gate.trustFiles.javaStore));
  expect(certificates.length).toBeGreaterThan(ca.length);
  expect(certificates).toEqual(written.map((text) => new X509Certificate(text).raw));
});
