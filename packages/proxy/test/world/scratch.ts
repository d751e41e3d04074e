import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** The value that no client may see. */
export const secret: string = `real-${randomBytes(20).toString("hex")}`;

/** Everything that this world writes. */
export const directory: string = mkdtempSync(path.join(tmpdir(), "nono-clients-"));

export function at(...parts: string[]): string {
  return path.join(directory, ...parts);
}

export function clear(): void {
  rmSync(directory, { recursive: true, force: true });
}

/** Whether a shell command succeeds; a bare word asks whether there is such a tool. */
export function has(probe: string): boolean {
  const command = probe.includes(" ") ? probe : `command -v ${probe} || test -x /usr/sbin/${probe}`;
  return spawnSync("sh", ["-c", command]).status === 0;
}

/** A self-signed certificate for `name`, written to `NAME.pem` and `NAME.key`. */
export function selfSigned(name: string): { cert: string; key: string } {
  const files = { cert: at(`${name}.pem`), key: at(`${name}.key`) };
  const request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
  const subject = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`];
  const output = ["-keyout", files.key, "-out", files.cert];
  spawnSync("openssl", [...request.split(" "), ...subject, ...output]);
  return files;
}
