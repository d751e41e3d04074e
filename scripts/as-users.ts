// Runs a test command as the current user and, when that is root, once more as an ordinary user:
// most of nono behaves differently for the two (capabilities, user namespaces, file ownership).
//
//   node scripts/as-users.ts vitest run
import { spawnSync } from "node:child_process";
import { mkdtempSync, chownSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";

const testUser = "nono-test";
const root = path.resolve(import.meta.dirname, "..");

/** Runs `argv` as the invoking user, then as the ordinary user; returns the first failing status. */
export function runAsUsers(argv: string[], cwd: string = process.cwd()): number {
  const state = mkdtempSync(path.join(tmpdir(), "nono-state-"));
  const own = run(argv, cwd, { ...process.env, XDG_STATE_HOME: state });
  rmSync(state, { recursive: true, force: true });
  if (process.getuid?.() !== 0) return own;
  const ordinary = runAsOrdinaryUser(argv, cwd);
  return own === 0 ? ordinary : own;
}

function runAsOrdinaryUser(argv: string[], cwd: string): number {
  const user = ensureTestUser();
  if (!user) {
    console.log(`SKIPPED: tests as an ordinary user: useradd could not create ${testUser}`);
    return 0;
  }
  const home = mkdtempSync(path.join(tmpdir(), "nono-home-"));
  chownSync(home, user.uid, user.gid);
  try {
    const names = { HOME: home, USER: testUser, LOGNAME: testUser, NONO_TESTED_AS_ROOT: "1" };
    const env = { ...process.env, ...names, XDG_STATE_HOME: path.join(home, ".local", "state") };
    const asUser = [
      "setpriv",
      `--reuid=${user.uid}`,
      `--regid=${user.gid}`,
      "--clear-groups",
      "--inh-caps=-all",
      ...argv,
    ];
    if (canRead(user)) return run(asUser, cwd, env);
    // A checkout below a private directory: show it to the user under another name, in a mount
    // namespace that ends with the command.
    const view = "/run/nono-checkout";
    const script = `mkdir -p ${view} && mount --bind "$1" ${view} && cd "${view}/$2" && shift 2 && exec "$@"`;
    const moved = {
      ...env,
      PATH: (env.PATH ?? "")
        .split(":")
        .map((dir) => (dir.startsWith(root) ? view + dir.slice(root.length) : dir))
        .join(":"),
    };
    const inside = path.relative(root, cwd);
    return run(
      ["unshare", "--mount", "sh", "-c", script, "sh", root, inside, ...asUser],
      "/",
      moved,
    );
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

function run(argv: string[], cwd: string, env: NodeJS.ProcessEnv): number {
  const [command = "", ...args] = argv;
  const { status, error } = spawnSync(command, args, { cwd, env, stdio: "inherit" });
  if (error) throw error;
  return status ?? 1;
}

function canRead(user: { uid: number; gid: number }): boolean {
  const file = path.join(root, "package.json");
  const args = [`--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups", "test", "-r", file];
  return spawnSync("setpriv", args).status === 0;
}

function ensureTestUser(): { uid: number; gid: number } | undefined {
  const look = (): { uid: number; gid: number } | undefined => {
    const { status, stdout } = spawnSync("getent", ["passwd", testUser], { encoding: "utf8" });
    if (status !== 0) return undefined;
    const [, , uid, gid] = stdout.split(":");
    return { uid: Number(uid), gid: Number(gid) };
  };
  const found = look();
  if (found) return found;
  spawnSync("useradd", ["--system", "--user-group", "--no-create-home", testUser]);
  return look();
}

if (import.meta.main) process.exitCode = runAsUsers(process.argv.slice(2));
