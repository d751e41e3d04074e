// Programs that PyPI has as wheels (PEP 427: archives of files), which need no Python themselves.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, globSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { Unavailable } from "../kernels/debian.ts";

/** A wheel, and which of its files are programs: unpacking keeps no permissions. */
export interface Wheel {
  readonly name: string;
  /** May end in `.*`. */
  readonly version: string;
  readonly program: string;
  /** Another than this machine's (PEP 656: `musllinux_1_2_x86_64`). */
  readonly platform?: string;
}

/**
 * The program of a wheel, which is downloaded and unpacked once into `directory`.
 *
 * @throws {@link Unavailable} without Python and its pip, or the wheel
 */
export function fetchWheel(wheel: Wheel, directory: string): string {
  const { name, version } = wheel;
  const place = path.join(directory, "wheels", name);
  if (!existsSync(place)) download(wheel, place);
  const [program] = globSync(wheel.program, { cwd: place });
  if (program === undefined) throw new Unavailable(`${name} ${version} has no ${wheel.program}`);
  chmodSync(path.join(place, program), 0o755);
  return path.join(place, program);
}

function download({ name, version, platform }: Wheel, place: string): void {
  const downloaded = `${place}.download`;
  rmSync(downloaded, { recursive: true, force: true });
  const other = platform === undefined ? [] : ["--platform", platform];
  const options = ["--quiet", "--no-deps", "--only-binary=:all:", ...other, "--dest", downloaded];
  run(["-m", "pip", "download", ...options, `${name}==${version}`]);
  const [file] = globSync("*.whl", { cwd: downloaded });
  if (file === undefined) throw new Unavailable(`pip downloaded no wheel of ${name}`);
  const unpacked = path.join(downloaded, "unpacked");
  run(["-m", "zipfile", "--extract", path.join(downloaded, file), unpacked]);
  renameSync(unpacked, place); // complete, or not there
  rmSync(downloaded, { recursive: true });
}

function run(args: readonly string[]): void {
  const { status, stderr, error } = spawnSync("python3", args, { encoding: "utf8" });
  if (error) throw new Unavailable(`python3 does not start: ${error.message}`);
  if (status !== 0) throw new Unavailable(`python3 ${args.join(" ")} failed: ${stderr.trim()}`);
}
