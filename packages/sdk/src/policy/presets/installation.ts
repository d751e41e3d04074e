// What programs were installed with, wherever version managers have put them.
import { closeSync, openSync, readSync } from "node:fs";
import path from "node:path";
import type { Host } from "../host.ts";

/** Where a program finds its library: what it was installed with, and nothing of others. */
export function installationOf(host: Host, file: string): string[] {
  const modules = file.lastIndexOf("/node_modules/");
  if (modules > 0) return [file.slice(0, modules + "/node_modules".length)];
  // Homebrew's packages, here and on macOS, find each other by `opt` and `lib`.
  const brew = /^(.+)\/Cellar\//.exec(file)?.[1];
  if (brew !== undefined) return ["Cellar", "opt?", "lib?"].map((name) => `${brew}/${name}`);
  const directory = path.dirname(file);
  return path.basename(directory) === "bin" ? below(host, path.dirname(directory)) : [];
}

/** Apple's compilers and git: what is in /usr/bin there only finds them. */
export const developerTools: readonly string[] = [
  "/Library/Developer/CommandLineTools?",
  "/Applications/Xcode.app/Contents/Developer?",
  "/private/var/db/xcode_select_link?",
];

/** What is below a prefix that programs were installed with (`./configure --prefix`). */
export function below(host: Host, prefix: string): string[] {
  // The base profile has /usr/lib and /usr/share.
  if (/^\/(usr(\/.*)?)?$/.test(prefix)) return [];
  // Shared with everything else that the user has: ~/.local/share holds keys, ~/.cargo a token.
  const isHidden = path.dirname(prefix) === host.home && path.basename(prefix).startsWith(".");
  const parts = ["bin?", "lib?", "lib64?", "libexec?"];
  return host.isTooWide(prefix) || isHidden
    ? parts.map((name) => path.join(prefix, name))
    : [prefix];
}

/** Whether it stands for a program that it chooses: a script, or one for many names (Volta, mise, rustup). */
export function isShim(file: string, name: string): boolean {
  return !path.basename(file).startsWith(name) || isScript(file);
}

function isScript(file: string): boolean {
  try {
    using descriptor = opened(file);
    const head = Buffer.alloc(2);
    return readSync(descriptor.fd, head) === 2 && head.toString() === "#!";
  } catch {
    return false; // what can be executed and not read is no script
  }
}

function opened(file: string): Disposable & { readonly fd: number } {
  const fd = openSync(file, "r");
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}
