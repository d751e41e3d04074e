// An emulated machine: a kernel, an initial RAM file system that carries the tests, an empty disk, and
// the host's files to read.
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { moduleName, type Kernel } from "./debian.ts";

/** What init.sh needs of the kernel, then what would be loaded on demand on an installed system. */
const modules = [
  ["virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "crc32c_generic", "ext4", "overlay"],
  ["unix_diag", "tcp_diag"],
].flat();

/** What the machine runs. */
export interface Job {
  /** Test binaries. */
  readonly binaries: readonly string[];
  /** Their arguments. */
  readonly arguments: readonly string[];
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
  const child = spawn("nice", ["-n", "19", "qemu-system-x86_64", ...machine(kernel, files, disk)], {
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

function machine(kernel: Kernel, files: string, disk: string): string[] {
  return [
    ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G"],
    ["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"],
    ["-kernel", kernel.image, "-initrd", files],
    ["-append", "console=ttyS0 panic=-1 quiet loglevel=1"], // a panic ends the machine
    ["-drive", `file=${disk},format=raw,if=virtio,cache=unsafe`],
    ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"],
    ["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"],
  ].flat();
}

/** Writes the initial RAM file system (cpio(5), as the kernel's early-userspace documentation has it). */
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
    const stripped = path.join(root, "tests/bin", path.basename(binary));
    must("strip", ["--strip-debug", "-o", stripped, binary]);
  }
  writeFileSync(path.join(root, "tests/arguments"), `${job.arguments.join("\n")}\n`);
  const order = addModules(kernel, path.join(root, "modules"));
  writeFileSync(path.join(root, "modules/order"), `${order.join("\n")}\n`);

  const names = readdirSync(root, { recursive: true }).join("\n");
  const packing = { cwd: root, input: names, maxBuffer: 512 * 1024 ** 2 };
  const packed = spawnSync(kernel.busybox, ["cpio", "-o", "-H", "newc"], packing);
  if (packed.status !== 0) throw new Error(`busybox cpio failed: ${packed.stderr}`);
  const archive = path.join(directory, "initial.cpio");
  writeFileSync(archive, packed.stdout);
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
