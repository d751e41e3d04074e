import path from "node:path";

/** What install.ts builds once for the tests; below node_modules, so that it is ignored and goes with it. */
const directory = path.join(import.meta.dirname, "..", "..", "node_modules", ".cache", "nono-test");

export const cached: { directory: string; keytar: string; goClient: string } = {
  directory,
  /** node-keytar's module, built against this machine's libsecret. */
  keytar: path.join(directory, "keytar", "node_modules", "keytar"),
  /** A Go program that fetches the URL it is given by net/http. */
  goClient: path.join(directory, "go-client"),
};
