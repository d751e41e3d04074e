// The text of a policy file. Others may have made it, or what it extends.
import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { PolicyError } from "./errors.ts";

/** In bytes. Nobody writes a policy that large, and no other file is one. */
const largest = 1024 * 1024;

/** What `<(command)` of a shell is, and standard input. */
const ownDescriptor = /^\/(dev\/(stdin|fd\/\d+)|proc\/self\/fd\/\d+)$/;

/**
 * Reads it.
 *
 * @throws {@link PolicyError} for what is no file (a pipe or a device could keep nono waiting, or without end), is
 *   too large, or is not UTF-8: names in it would be others than those that were meant.
 */
export function readPolicy(file: string): string {
  const bytes = bytesOf(file);
  try {
    // Without the byte order mark that some editors write (RFC 8259, section 8.1).
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw unreadable(file, "it is not UTF-8", cause);
  }
}

function bytesOf(file: string): Buffer {
  try {
    return ownDescriptor.test(file) ? readFileSync(file) : bytesOfFile(file);
  } catch (cause) {
    if (cause instanceof PolicyError) throw cause;
    throw unreadable(file, (cause as NodeJS.ErrnoException).code ?? String(cause), cause);
  }
}

function bytesOfFile(file: string): Buffer {
  // Opening a pipe would wait for its other end.
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const { size } = regular(file, fd);
    if (size > largest) throw unreadable(file, `it is larger than ${largest} bytes`);
    const bytes = Buffer.alloc(largest);
    let length = 0;
    for (let read = -1; read !== 0; length += read) {
      read = readSync(fd, bytes, length, largest - length, length);
    }
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

function regular(file: string, fd: number): { readonly size: number } {
  const status = fstatSync(fd);
  if (!status.isFile()) throw unreadable(file, "it is not a file");
  return status;
}

function unreadable(file: string, why: string, cause?: unknown): PolicyError {
  return new PolicyError({ source: file }, `the policy can't be read (${why})`, {
    value: file,
    remedy: "Name a file that exists, or a preset (nono policy list).",
    cause,
  });
}
