import path from "node:path";

/** What install.ts builds once for the tests; below node_modules, so that it is ignored and goes with it. */
const directory = path.join(import.meta.dirname, "..", "..", "node_modules", ".cache", "nono-test");

export const cached: Readonly<
  Record<
    | "directory"
    | "keytar"
    | "goClient"
    | "goStatic"
    | "rustClient"
    | "muslClient"
    | "cargo"
    | "deno"
    | "java"
    | "aws",
    string
  >
> = {
  directory,
  /** node-keytar's module, built against this machine's libsecret. */
  keytar: path.join(directory, "keytar", "node_modules", "keytar"),
  /** A Go program that fetches the URL it is given by net/http. */
  goClient: path.join(directory, "go-client"),
  /** The same without the C library. */
  goStatic: path.join(directory, "go-static"),
  /** A Rust program that does so by ureq, with rustls. */
  rustClient: path.join(directory, "rust-client"),
  /** A C program on musl that prints a server's first words: `HOST PORT`. */
  muslClient: path.join(directory, "musl-client"),
  cargo: path.join(directory, "cargo"),
  deno: path.join(directory, "deno", "node_modules", "@deno", "linux-x64-glibc", "deno"),
  /** The classes `Echo`, and `Authenticated`, which knows its proxy's password. */
  java: path.join(directory, "java"),
  /** The AWS CLI as a Python path. */
  aws: path.join(directory, "aws"),
};
