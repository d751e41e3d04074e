// How long a sandboxed `/bin/true` takes from one Node process, beside the peers that can be installed. All
// take turns in each round, so that what disturbs one disturbs all; ratios are taken round by round.
//
//   node scripts/compare-peers.ts [rounds]
//
// Peers are installed from npm into a temporary directory; bubblewrap is used if the system has it.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { Sandbox } from "../packages/sdk/dist/index.js";

interface Variant {
  readonly name: string;
  run(): Promise<void>;
}

const rounds = Number(process.argv[2] ?? 40);
const directory = mkdtempSync(path.join(tmpdir(), "nono-peers-"));
const workspace = path.join(directory, "workspace");
const target = "/bin/true";
mkdirSync(workspace);

async function finish(command: string, args: string[], options: object = {}): Promise<void> {
  const child = spawn(command, args, { stdio: "ignore", cwd: workspace, ...options });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`${command} ${args.join(" ")} exited with ${code}`);
}

function install(name: string): string | undefined {
  const prefix = path.join(directory, name.replaceAll(/\W/g, "-"));
  try {
    execFileSync("npm", ["install", "--no-audit", "--no-fund", "--prefix", prefix, name], {
      stdio: "ignore",
    });
    return path.join(prefix, "node_modules");
  } catch {
    console.log(`SKIPPED: ${name}: it can't be installed`);
    return undefined;
  }
}

function version(modules: string, name: string): string {
  const manifest = readFileSync(path.join(modules, name, "package.json"), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}

/** What every one of them may do: write to the workspace, and no network. */
function granted(): Sandbox {
  return new Sandbox({ audit: false }).allowWrite(workspace).allowExec(target);
}

async function variants(): Promise<Variant[]> {
  const sandbox = granted();
  const list: Variant[] = [
    { name: "child_process.spawn, no sandbox", run: () => finish(target, []) },
    {
      name: "nono: spawn in a sandbox",
      run: async () => void (await (await sandbox.spawn([target], { stdio: "ignore" })).exited),
    },
    {
      name: "nono: create, spawn, close",
      run: async () => {
        await using fresh = granted();
        await (
          await fresh.spawn([target], { stdio: "ignore" })
        ).exited;
      },
    },
  ];
  // The program itself: the package around it starts a Node process first.
  const program = "@landstrip/landstrip-linux-x64";
  const landstrip = install(`${program}@0.19.2`);
  if (landstrip) {
    const policy = path.join(directory, "landstrip.json");
    writeFileSync(
      policy,
      JSON.stringify({ filesystem: { allowWrite: [workspace] }, network: { allowNetwork: false } }),
    );
    const bin = path.join(landstrip, program, "bin/landstrip");
    const name = `landstrip ${version(landstrip, program)}`;
    list.push({ name, run: () => finish(bin, ["run", "-p", policy, "--", target]) });
  }
  if (existsSync("/usr/bin/bwrap")) {
    const args = [
      "--ro-bind",
      "/",
      "/",
      "--bind",
      workspace,
      workspace,
      "--proc",
      "/proc",
      "--dev",
      "/dev",
    ];
    const unshare = ["--unshare-user", "--unshare-pid", "--unshare-net", "--die-with-parent"];
    const shown = execFileSync("bwrap", ["--version"], { encoding: "utf8" }).trim();
    list.push({ name: shown, run: () => finish("bwrap", [...args, ...unshare, target]) });
  }
  const srt = install("@anthropic-ai/sandbox-runtime");
  try {
    if (srt) list.push(await srtVariant(srt));
  } catch (error) {
    console.log(`SKIPPED: sandbox-runtime: ${String(error)}`); // such as: it needs bwrap, socat and rg
  }
  return list;
}

async function srtVariant(modules: string): Promise<Variant> {
  const entry = path.join(modules, "@anthropic-ai/sandbox-runtime/dist/index.js");
  const { SandboxManager } = (await import(pathToFileURL(entry).href)) as {
    SandboxManager: {
      initialize(config: object): Promise<void>;
      wrapWithSandbox(command: string): Promise<string>;
      cleanupAfterCommand?(): void;
      reset(): Promise<void>;
    };
  };
  const network = { allowedDomains: [], deniedDomains: [] };
  const filesystem = { denyRead: [], allowWrite: [workspace], denyWrite: [] };
  await SandboxManager.initialize({ network, filesystem });
  atEnd.push(() => SandboxManager.reset());
  return {
    name: `sandbox-runtime ${version(modules, "@anthropic-ai/sandbox-runtime")}, wrap and spawn`,
    run: async () => {
      await finish(await SandboxManager.wrapWithSandbox(target), [], { shell: true });
      SandboxManager.cleanupAfterCommand?.();
    },
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

const atEnd: (() => Promise<void>)[] = [];
try {
  const all = await variants();
  const times = new Map<string, number[]>(all.map(({ name }) => [name, []]));
  const failed = new Set<string>();
  for (let round = -3; round < rounds; round += 1) {
    for (const variant of all) {
      const { name } = variant;
      if (failed.has(name)) continue;
      const begin = performance.now();
      try {
        await variant.run();
      } catch (error) {
        console.log(`SKIPPED: ${name}: ${String(error).split("\n")[0]}`);
        failed.add(name);
      }
      if (round >= 0) times.get(name)?.push(performance.now() - begin); // the first three warm up
    }
  }
  const [bare = []] = times.values();
  console.log(`| ${target}, ${rounds} rounds | min ms | median ms | to no sandbox |`);
  console.log("| --- | --- | --- | --- |");
  for (const [name, took] of times) {
    if (failed.has(name)) continue;
    const ratio = median(took.map((time, at) => time / (bare[at] ?? Number.NaN)));
    console.log(
      `| ${name} | ${Math.min(...took).toFixed(1)} | ${median(took).toFixed(1)} | ${ratio.toFixed(2)} |`,
    );
  }
} finally {
  for (const end of atEnd) await end();
  rmSync(directory, { recursive: true, force: true });
}
process.exit();
