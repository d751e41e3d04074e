// Deletes what commands have made: modes may forbid it (Go's module cache is read-only), and who runs at
// the same time may put a link in a directory's place. So nothing is done by a name that leads through a
// directory of theirs, but by descriptors, and by their links in /proc: O_PATH needs no permission.
import { randomUUID } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  unlinkSync,
} from "node:fs";
import process from "node:process";

// asm-generic/fcntl.h: Node does not name it.
const O_PATH = 0o10000000;

/** Deletes a directory of this user, with all in it. What can't be deleted stays; it is no error. */
export function deleteTree(directory: string): void {
  try {
    using root = openDirectory(Buffer.from(directory));
    if (fstatSync(root.fd).uid !== process.geteuid?.()) return;
    chmodSync(root.path, 0o700);
    while (!emptyOnce(root));
    rmdirSync(directory);
  } catch {
    // Somebody else is about to delete it, or has put something there.
  }
}

/**
 * Deletes the entries of a directory, and moves what their subdirectories are up to it: trees may be deeper
 * than the stack, or a path. Returns whether there were none.
 */
function emptyOnce(root: Directory): boolean {
  let isEmpty = true;
  for (const entry of entriesOf(root)) {
    if (unlinked(entry)) continue;
    {
      using inner = openDirectory(entry);
      chmodSync(inner.path, 0o700);
      for (const deeper of entriesOf(inner)) {
        if (unlinked(deeper)) continue;
        isEmpty = false;
        using moved = openDirectory(deeper);
        // Its ".." is changed with it, for which it has to be writable.
        chmodSync(moved.path, 0o700);
        renameSync(deeper, `${root.path}/${randomUUID()}`);
      }
    }
    rmdirSync(entry);
  }
  return isEmpty;
}

interface Directory extends Disposable {
  readonly fd: number;
  /** Leads to it, wherever it is moved. */
  readonly path: string;
}

/** @throws When it is no directory itself: no link is followed. */
function openDirectory(name: Buffer): Directory {
  const fd = openSync(name, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  return { fd, path: `/proc/self/fd/${fd}`, [Symbol.dispose]: () => closeSync(fd) };
}

/** Names need not be UTF-8. */
function entriesOf({ path }: Directory): Buffer[] {
  return readdirSync(path, { encoding: "buffer" }).map((name) =>
    Buffer.concat([Buffer.from(`${path}/`), name]),
  );
}

/** Whether it is gone; false: it is a directory. */
function unlinked(entry: Buffer): boolean {
  try {
    unlinkSync(entry);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return true;
    if (code === "EISDIR") return false;
    throw error;
  }
}
