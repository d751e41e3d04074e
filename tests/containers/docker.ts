// A Docker of our own: its daemon, its socket and its images, apart from any that runs here.
import { spawn, spawnSync, type ChildProcess, type SpawnSyncReturns } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, openSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { Unavailable } from "../kernels/debian.ts";

const programs = ["dockerd", "docker", "containerd", "runc"];

export class Docker implements AsyncDisposable {
  readonly #daemon: ChildProcess;
  readonly #host: string;

  private constructor(daemon: ChildProcess, host: string) {
    this.#daemon = daemon;
    this.#host = host;
  }

  /**
   * Starts the daemon, which keeps everything in `directory` and leaves the machine's network alone.
   *
   * @throws {@link Unavailable} if it does not run here
   */
  static async start(directory: string): Promise<Docker> {
    if (process.getuid?.() !== 0) throw new Unavailable("Docker's daemon takes root");
    for (const program of programs) {
      if (spawnSync(program, ["--version"]).status !== 0)
        throw new Unavailable(`${program} does not run here (Debian: docker.io)`);
    }
    mkdirSync(directory, { recursive: true });
    const place = (name: string): string => path.join(directory, name);
    const [socket, log] = [place("socket"), openSync(place("log"), "w")];
    const flags = [
      ["--data-root", place("data"), "--exec-root", place("run"), "--pidfile", place("pid")],
      ["--host", `unix://${socket}`, "--bridge", "none", "--iptables=false", "--ip6tables=false"],
    ].flat();
    const daemon = spawn("dockerd", flags, { stdio: ["ignore", log, log] });
    const docker = new Docker(daemon, `unix://${socket}`);
    const tries = 120;
    for (let attempt = 0; attempt < tries && daemon.exitCode === null; attempt++) {
      if (existsSync(socket) && docker.call("version").status === 0) return docker;
      await setTimeout(500);
    }
    await docker[Symbol.asyncDispose]();
    throw new Unavailable(`dockerd does not run here; it says why in ${place("log")}`);
  }

  /** Makes an image of a directory. */
  import(directory: string, name: string): void {
    const script = 'tar -C "$0" -c . | docker import - "$1"';
    const made = spawnSync("sh", ["-c", script, directory, name], this.#options());
    if (made.status !== 0) throw new Error(`docker import: ${made.stderr}`);
  }

  /** Runs a command of `docker` to its end. */
  call(...args: string[]): SpawnSyncReturns<string> {
    return spawnSync("docker", args, this.#options());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#daemon.exitCode !== null) return;
    this.#daemon.kill("SIGTERM");
    await once(this.#daemon, "exit");
  }

  #options(): { env: NodeJS.ProcessEnv; encoding: "utf8"; maxBuffer: number } {
    const env = { ...process.env, DOCKER_HOST: this.#host };
    return { env, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 };
  }
}
