// An emulated machine: a kernel, an initial RAM file system that carries the tests, an empty disk, and
// the host's files to read.
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { archiveOf } from "./archive.ts";
import { moduleName, type Architecture, type Kernel } from "./debian.ts";

/** What init.sh needs of the kernel, then what would be loaded on demand on an installed system. */
const modules = [
  ["virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "crc32c_generic", "ext4", "overlay"],
  ["unix_diag", "tcp_diag", "loop", "xfs", "btrfs"],
].flat();

/** What a machine of each architecture is. */
const machines: Record<Architecture, { emulator: string; console: string; is: string[] }> = {
  // Under load the emulated timer is late for the kernel's check of it, which would be a panic.
  amd64: {
    emulator: "qemu-system-x86_64",
    console: "ttyS0 no_timer_check",
    is: ["-machine", "q35", "-cpu", "max"],
  },
  // The architecture's own cipher for pointer authentication takes most of the time under emulation.
  arm64: {
    emulator: "qemu-system-aarch64",
    console: "ttyAMA0",
    is: ["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
  },
};

/** The program that emulates machines of an architecture. */
export function emulator(architecture: Architecture): string {
  return machines[architecture].emulator;
}

/** What the machine runs. */
export interface Job {
  /** The root directory that it reads. */
  readonly root: string;
  /** Test binaries, without what only a debugger reads. */
  readonly binaries: readonly string[];
  /** Their arguments. */
  readonly arguments: readonly string[];
  /** A directory that it has as `/project`, and files that are there as well, by their names in it. */
  readonly project?: { readonly directory: string; readonly added: ReadonlyMap<string, string> };
}

/**
 * Boots the kernel, runs the job, and tells each line of its console. The machine is gone afterwards,
 * or after `seconds`.
 *
 * @returns whether it ended by itself
 */
export async function boot(
  kernel: Kernel,
  job: Job,
  directory: string,
  seconds: number,
  tell: (line: string) => void,
): Promise<boolean> {
  const files = initialFiles(kernel, job, directory);
  const disk = path.join(directory, "disk");
  rmSync(disk, { force: true });
  writeFileSync(disk, "");
  truncateSync(disk, 4 * 1024 ** 3);
  must("mkfs.ext4", ["-q", disk]);
  // Under emulation everybody else would feel it.
  const emulating = [emulator(kernel.architecture), ...machine(kernel, job, files, disk)];
  const child = spawn("nice", ["-n", "19", ...emulating], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: seconds * 1000,
    killSignal: "SIGKILL",
  });
  const ended = new Promise<boolean>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve(status === 0));
  });
  for await (const line of createInterface({ input: child.stdout }))
    tell(line.replaceAll("\r", ""));
  rmSync(disk);
  return ended;
}

function machine(kernel: Kernel, job: Job, files: string, disk: string): string[] {
  const { is, console } = machines[kernel.architecture];
  return [
    [...is, "-accel", "tcg,thread=multi", "-smp", "2", "-m", "2G"],
    ["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"],
    ["-kernel", kernel.image, "-initrd", files],
    ["-append", `console=${console} panic=-1 quiet loglevel=1`], // a panic ends the machine
    ["-drive", `file=${disk},format=raw,if=virtio,cache=unsafe`],
    shared("host", job.root),
    job.project ? shared("project", job.project.directory) : [],
  ].flat();
}

/** A directory that the machine can mount by its name. */
function shared(name: string, directory: string): string[] {
  const options = "security_model=none,readonly=on,multidevs=remap";
  return [
    ["-fsdev", `local,id=${name},path=${directory},${options}`],
    ["-device", `virtio-9p-pci,fsdev=${name},mount_tag=${name}`],
  ].flat();
}

/** Writes the initial RAM file system. */
function initialFiles(kernel: Kernel, job: Job, directory: string): string {
  const root = path.join(directory, "initial");
  rmSync(root, { recursive: true, force: true });
  for (const place of [
    "bin",
    "modules",
    "tests/bin",
    "proc",
    "sys",
    "dev",
    "host",
    "disk",
    "root",
  ]) {
    mkdirSync(path.join(root, place), { recursive: true });
  }
  const put = (source: string, place: string) => {
    copyFileSync(source, path.join(root, place));
    chmodSync(path.join(root, place), 0o755);
  };
  put(kernel.busybox, "bin/busybox");
  put(path.join(import.meta.dirname, "init.sh"), "init");
  put(path.join(import.meta.dirname, "guest.sh"), "tests/guest.sh");
  for (const binary of job.binaries) {
    put(binary, path.join("tests/bin", path.basename(binary)));
  }
  for (const [name, file] of job.project?.added ?? []) {
    mkdirSync(path.dirname(path.join(root, "added", name)), { recursive: true });
    put(file, path.join("added", name));
  }
  writeFileSync(path.join(root, "tests/arguments"), `${job.arguments.join("\n")}\n`);
  const order = addModules(kernel, path.join(root, "modules"));
  writeFileSync(path.join(root, "modules/order"), `${order.join("\n")}\n`);

  const archive = path.join(directory, "initial.cpio");
  writeFileSync(archive, archiveOf(root));
  return archive;
}

/** Copies the modules with those that they need; returns their names in the order to load them. */
function addModules(kernel: Kernel, directory: string): string[] {
  const order: string[] = [];
  const add = (name: string): void => {
    const file = kernel.modules.get(name);
    if (file === undefined || order.includes(name)) return; // or it is built in
    const content = file.endsWith(".xz") ? must("xz", ["-dc", file]) : readFileSync(file);
    // The section .modinfo, as modinfo(8) prints it.
    const depends = /\0depends=([^\0]*)\0/.exec(content.toString("latin1"))?.[1] ?? "";
    for (const needed of depends.split(",").filter(Boolean)) add(moduleName(needed));
    writeFileSync(path.join(directory, `${name}.ko`), content);
    order.push(name);
  };
  for (const name of modules) add(name);
  return order;
}

function must(program: string, args: string[]): Buffer {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    maxBuffer: 64 * 1024 ** 2,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} failed: ${stderr}`);
  return stdout;
}
