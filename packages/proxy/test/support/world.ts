import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { expect } from "vitest";

/** What became of a client of the world. */
export interface Result {
  readonly name: string;
  readonly status?: number;
  readonly output?: string;
  readonly skipped?: string;
}

const world = path.join(import.meta.dirname, "..", "world");
const ids = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
const isRoot = ids[0] === 0;
// Network namespaces need no privilege where user namespaces need none.
const enter = isRoot ? [] : ["unshare", "--user", "--map-root-user"];

/** Whether there can be a world: a network namespace with servers in it. */
export const possible: boolean =
  isRoot || spawnSync("unshare", ["--user", "--map-root-user", "--net", "true"]).status === 0;
if (!possible) {
  console.log("SKIPPED: unmodified clients: no user namespaces for an ordinary user here");
}

/** The clients that are given `https://echo.test/`, or what stands for it in their world. */
export const fetchers: readonly string[] = [
  "curl",
  "curl over IPv6",
  "curl with a large upload",
  "node fetch",
  "node WebSocket",
  "node HTTP/2",
  "python urllib",
  "python requests",
  "python httpx",
  "wget",
  "go net/http",
  "go net/http without cgo",
  "rust ureq",
  "ruby",
  "deno",
  "AWS CLI",
  "cargo",
  "java",
  "openssl s_client",
];

/** Milliseconds that {@link World.open} may take. */
export const worldTimeout = 600_000;

/** Every client, run once. */
export class World {
  readonly results: Map<string, Result> = new Map();

  /** Runs the clients in a tier of @nono/core, or with the gate as an `explicit` proxy. */
  open(way: "namespaces" | "flat" | "explicit"): void {
    const script = ["python3", path.join(world, "netns.py"), process.execPath];
    const [command, ...args] = [...enter, ...script, path.join(world, "main.ts"), way];
    const { stdout, stderr } = spawnSync(command, args, {
      encoding: "utf8",
      env: { ...process.env, NONO_OUTER_IDS: ids.join(" ") },
      timeout: worldTimeout - 10_000,
    });
    for (const line of stdout.split("\n").filter((text) => text.startsWith("{"))) {
      const result = JSON.parse(line) as Result;
      this.results.set(result.name, result);
      if (result.skipped !== undefined) console.log(`SKIPPED: ${result.name}: ${result.skipped}`);
    }
    if (!this.results.has("secret")) throw new Error(`the world ended early: ${stderr}`);
  }

  /** What a client printed, which has to have ended well; undefined: it is not there. */
  output(name: string): string | undefined {
    const {
      status,
      output: text = "",
      skipped,
    } = this.results.get(name) ?? { status: -2, output: "did not run" };
    if (skipped !== undefined) return undefined;
    expect(status, `${name}: ${text}`).toBe(0);
    return text;
  }

  /** A client got its answer, with the credential, without seeing it. */
  expectAuthorized(name: string): void {
    const text = this.output(name);
    if (text === undefined) return;
    expect(text).toContain("authorized=true");
    expect(text).toMatch(/echo=Bearer \*{45}/);
  }

  /** The secret is nowhere in what clients printed. */
  expectSecretUnseen(): void {
    const secret = this.output("secret") ?? "";
    expect(secret).toHaveLength(45);
    for (const [name, { output: text = "" }] of this.results) {
      if (name !== "secret") expect(text, name).not.toContain(secret);
    }
    expect(this.output("environment")).toMatch(/^ECHO_TOKEN=npm_/m);
  }
}
