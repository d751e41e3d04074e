// Archives as the kernel unpacks them at its start: cpio(5)'s "newc" (initramfs buffer format in the
// kernel's early-userspace documentation). The programs for it differ by machine; the format is short.
import { lstatSync, readFileSync, readdirSync } from "node:fs";
import path from "node:path";

/** The directories and files below `root`, all of them root's. */
export function archiveOf(root: string): Buffer {
  const names = readdirSync(root, { recursive: true }).map(String).sort();
  const entries = names.map((name, index) => {
    const file = path.join(root, name);
    const { mode } = lstatSync(file);
    const content = (mode & 0o170000) === 0o040000 ? Buffer.alloc(0) : readFileSync(file);
    return entry(name, index + 1, mode, content);
  });
  return Buffer.concat([...entries, entry("TRAILER!!!", 0, 0, Buffer.alloc(0))]);
}

function entry(name: string, inode: number, mode: number, content: Buffer): Buffer {
  const nameSize = Buffer.byteLength(name) + 1;
  // Inode, mode, user, group, links, time, size, four numbers of devices, length of the name, checksum.
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, nameSize, 0];
  const numbers = fields.map((field) => field.toString(16).padStart(8, "0")).join("");
  return Buffer.concat([padded(Buffer.from(`070701${numbers}${name}\0`)), padded(content)]);
}

/** With zeros up to a multiple of four. */
function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
