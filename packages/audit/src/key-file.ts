import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { AuditError, errnoOf } from "./errors.ts";
import { seedSize } from "./keys.ts";
import { ed25519Signer, type CheckpointSigner } from "./signer.ts";

/**
 * A signer whose Ed25519 seed is in a file of mode 0600, made on first use.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` when the file is readable by others or is not a seed.
 * @example
 * ```ts
 * const signer = keyFileSigner("/var/lib/nono/ledger.key", "nono.local/host-7");
 * ```
 */
export function keyFileSigner(file: string, name: string): CheckpointSigner {
  const seed = readSeed(file) ?? createSeed(file);
  try {
    return ed25519Signer(name, seed);
  } finally {
    seed.fill(0);
  }
}

function readSeed(file: string): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(file, "r");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    const { mode } = fstatSync(fd);
    if ((mode & 0o077) !== 0) {
      throw new AuditError(
        "ERR_NONO_AUDIT_INPUT",
        `key file ${file} can be read by others; chmod 600 it, or make a new key`,
        {
          value: `0${(mode & 0o777).toString(8)}`,
        },
      );
    }
    const seed = Buffer.from(readFileSync(fd, "latin1").trim(), "hex");
    if (seed.length === seedSize) return seed;
    throw new AuditError(
      "ERR_NONO_AUDIT_INPUT",
      `key file ${file} is not ${seedSize} bytes in hex`,
      { value: seed.length },
    );
  } finally {
    closeSync(fd);
  }
}

/** Makes the file whole or not at all; when another process was first, its seed is the one. */
function createSeed(file: string): Buffer {
  const seed = randomBytes(seedSize);
  const aside = `${file}.${randomBytes(6).toString("hex")}`;
  const fd = openSync(aside, "wx", 0o600);
  try {
    writeSync(fd, `${seed.toString("hex")}\n`);
    fsyncSync(fd);
    linkSync(aside, file);
    return seed;
  } catch (error) {
    const theirs = errnoOf(error) === "EEXIST" ? readSeed(file) : undefined;
    if (theirs) return theirs;
    throw error;
  } finally {
    closeSync(fd);
    unlinkSync(aside);
  }
}
