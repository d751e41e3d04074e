// Presets find tools where their users have put them (by the tools' own variables, version managers,
// virtual environments), run nothing of the workspace to find out, and never grant the home directory.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { support } from "../src/index.ts";
import { Host } from "../src/policy/host.ts";
import { presets } from "../src/policy/presets/index.ts";
import { resolvePolicy } from "../src/policy/resolve.ts";
import { expandPaths, expandPrograms } from "../src/policy/variables.ts";
import { isBelow } from "../src/state.ts";
import { nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

const tiers = support()
  .tiers.filter(({ available }) => available)
  .map(({ name }) => name);

let directory: string;
let workspace: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-choice-")));
  workspace = path.join(directory, "workspace");
  mkdirSync(workspace);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true, force: true });
});

function put(name: string, text: string, mode = 0o644): string {
  const file = path.join(directory, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
}

function which(program: string): string | undefined {
  const found = spawnSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" });
  return found.status === 0 ? realpathSync(found.stdout.trim()) : undefined;
}

function inSandbox(
  preset: string,
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
  flags: readonly string[] = [],
): ReturnType<typeof nono> {
  const run = ["run", "-p", preset, "--allow-write", ".", ...flags, "--", ...argv];
  return nono(run, { cwd: workspace, env: { ...process.env, ...env } });
}

/** Grants that hold the home directory or what is private in it. */
function tooWide(): string[] {
  const home = path.join(directory, "home");
  return Object.keys(presets).flatMap((name) => {
    const { read, write, exec } = resolvePolicy(name, { workspace });
    return [...read, ...write, ...exec]
      .filter((grant) => grant.startsWith("/"))
      .filter((grant) => isBelow(`${home}/.local/share/keyrings`, grant) || isBelow(home, grant))
      .map((grant) => `${name}: ${grant}`);
  });
}

describe.for(tiers)("in the tier %s", (tier) => {
  const flags = ["--tier", tier];

  test.runIf(which("python3"))("python is the one of the active virtual environment", () => {
    const environment = path.join(directory, "environment");
    spawnSync("python3", ["-m", "venv", "--without-pip", environment]);
    const version = ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"];
    const library = spawnSync(`${environment}/bin/python3`, version, { encoding: "utf8" });
    writeFileSync(path.join(library.stdout.trim(), "only_there.py"), "");
    const env = {
      VIRTUAL_ENV: environment,
      PATH: `${environment}/bin:${process.env["PATH"]}`,
    };
    const script = ["-c", "import sys, only_there; print(sys.prefix)"];
    const { stdout, stderr } = inSandbox("python", ["python3", ...script], env, flags);
    expect(stdout, stderr).toBe(`${environment}\n`);
  });

  test.runIf(which("python3"))("python has what the user has installed for himself", () => {
    const env = { PYTHONUSERBASE: path.join(directory, "base") };
    const where = ["-m", "site", "--user-site"];
    const site = spawnSync("python3", where, { env: { ...process.env, ...env }, encoding: "utf8" });
    put(path.join(path.relative(directory, site.stdout.trim()), "own.py"), "text = 'own'");
    const script = ["python3", "-c", "import own; print(own.text)"];
    const { stdout, stderr } = inSandbox("python", script, env, flags);
    expect(stdout, stderr).toBe("own\n");
  });

  test.runIf(which("git"))("git has the user's configuration, and what it includes", () => {
    const included = put("more/included", "[user]\n  email = a@example.test\n");
    put("conditional", "[user]\n  name = conditional\n");
    put("ignored", "*.log\n");
    const config =
      `[include]\n  path = ${included}\n` +
      `[includeIf "gitdir:${workspace}/"]\n  path = ../conditional\n` +
      `[core]\n  excludesFile = ${directory}/ignored\n`;
    put("git/config", config);
    const file = put("git/other", config);
    spawnSync("git", ["init", "--quiet"], { cwd: workspace });
    writeFileSync(path.join(workspace, "a.log"), "");
    const HOME = path.join(directory, "home");
    for (const where of [{ XDG_CONFIG_HOME: directory }, { GIT_CONFIG_GLOBAL: file }]) {
      const env = { HOME, ...where };
      const git = (...args: string[]): string => {
        const { stdout, stderr } = inSandbox("git", ["git", ...args], env, flags);
        return stdout + stderr;
      };
      expect(git("config", "user.email")).toBe("a@example.test\n");
      expect(git("config", "user.name")).toBe("conditional\n");
      expect(git("status", "--porcelain")).toBe("");
    }
  });

  test.runIf(which("git"))("git has the user's configuration without the secrets in it", () => {
    const secrets = [
      '[url "https://me:s3cret@host.test/"]\n  insteadOf = https://host.test/\n',
      '[http "https://host.test"]\n  extraHeader = Authorization: Bearer s3cret\n',
      "[github]\n  token = s3cret\n[sendemail]\n  smtpPass = s3cret\n",
      '[credential]\n  helper = "!f() { echo password=s3cret; }; f"\n',
    ];
    put("home/more", `${secrets.slice(1).join("")}[user]\n  name = $a$$b\n`);
    put("home/.gitconfig", `[include]\n  path = more\n[alias]\n  st = status -s\n[a]\n  b\n`);
    const file = put("home/.config/git/config", `${secrets[0]}[user]\n  email = a@example.test\n`);
    const HOME = path.join(directory, "home");
    const git = (...args: string[]): string => {
      const env = { HOME, XDG_CONFIG_HOME: "" };
      const { stdout, stderr } = inSandbox("git", ["git", ...args], env, flags);
      return stdout + stderr;
    };
    spawnSync("git", ["init", "--quiet"], { cwd: workspace });
    const all = git("config", "--list");
    expect(all).toContain("user.email=a@example.test\n");
    expect(all).toContain("user.name=$a$$b\n");
    expect(all).toContain("a.b=true\n");
    expect(git("st")).toBe("");
    expect(all).not.toContain("s3cret");
    for (const place of [file, `${HOME}/more`]) {
      const read = inSandbox("git", ["git", "config", "--file", place, "--list"], { HOME }, flags);
      expect(read.stdout + read.stderr).not.toContain("s3cret");
    }
  });

  test.runIf(which("git"))("a configuration without secrets is read where it is", () => {
    const config =
      '[core]\n  askPass = /bin/ask\n[url "https://git@host.test/"]\n  insteadOf = h:\n';
    const file = put("home/.gitconfig", config);
    vi.stubEnv("HOME", path.join(directory, "home"));
    const { read, env } = resolvePolicy("git", { workspace });
    expect(read).toContain(file);
    expect(Object.keys(env.set)).not.toContain("GIT_CONFIG_COUNT");
  });

  test.runIf(which("git"))(
    "git reads the repository of a worktree, which nothing else can claim to be",
    () => {
      const git = (...args: string[]) => {
        const who = ["-c", "user.name=a", "-c", "user.email=a@example.test"];
        return spawnSync("git", [...who, ...args], { cwd: directory, encoding: "utf8" });
      };
      git("init", "--quiet", "repository");
      git("-C", "repository", "commit", "--quiet", "--allow-empty", "--message=First");
      rmSync(workspace, { recursive: true });
      expect(git("-C", "repository", "worktree", "add", "--quiet", workspace).status).toBe(0);
      const log = inSandbox("git", ["git", "log", "--format=%s"], {}, flags);
      expect(log.stdout, log.stderr).toBe("First\n");
      const linked = path.join(directory, "repository/.git/worktrees/workspace");
      cpSync(linked, path.join(directory, "secret/worktrees/x"), { recursive: true });
      writeFileSync(path.join(directory, "secret/worktrees/x/gitdir"), "/elsewhere/.git\n");
      writeFileSync(path.join(workspace, ".git"), `gitdir: ${directory}/secret/worktrees/x\n`);
      expect(resolvePolicy("git", { workspace }).read.join()).not.toContain("secret");
    },
  );

  test("node is the one that a version manager chooses", () => {
    // As asdf's and nodenv's shims; mise's and Volta's are programs under another name.
    put("shims/node", `#!/bin/sh\nexec ${process.execPath} "$@"\n`, 0o755);
    const env = { PATH: `${directory}/shims:/usr/bin:/bin` };
    const script = ["node", "-p", "process.execPath"];
    const { stdout, stderr } = inSandbox("node", script, env, flags);
    expect(stdout, stderr).toBe(`${realpathSync(process.execPath)}\n`);
  });

  test.runIf(which("rustup"))("rust is the one in RUSTUP_HOME", () => {
    const sysroot = spawnSync("rustc", ["--print", "sysroot"], { encoding: "utf8" }).stdout.trim();
    put("rustup/settings.toml", 'version = "12"\ndefault_toolchain = "mine"\n');
    mkdirSync(path.join(directory, "rustup/toolchains"));
    // As `rustup toolchain link` does.
    symlinkSync(sysroot, path.join(directory, "rustup/toolchains/mine"));
    put("workspace/main.rs", 'fn main() { println!("hello") }');
    const env = { RUSTUP_HOME: path.join(directory, "rustup") };
    const built = inSandbox("rust", ["rustc", "main.rs"], env, flags);
    expect(built.status, built.stderr).toBe(0);
    expect(spawnSync(path.join(workspace, "main"), { encoding: "utf8" }).stdout).toBe("hello\n");
    const version = inSandbox("rust", ["cargo", "--version"], env, flags);
    expect(version.stdout, version.stderr).toMatch(/^cargo /);
  });
});

test("no program of the workspace is run to find out about a tool", () => {
  const marker = path.join(directory, "was-run");
  for (const name of ["git", "go", "node", "python3", "rustc"]) {
    put(`workspace/node_modules/.bin/${name}`, `#!/bin/sh\ntouch ${marker}\n`, 0o755);
  }
  // As in scripts that npm runs.
  vi.stubEnv("PATH", `${workspace}/node_modules/.bin:${process.env["PATH"]}`);
  for (const name of Object.keys(presets)) resolvePolicy(name, { workspace });
  expect(existsSync(marker)).toBe(false);
});

test("nothing that is run to find out about a tool obeys files of the current directory", () => {
  const places = path.join(directory, "places");
  for (const name of ["git", "go", "node", "python3", "rustc"]) {
    put(`tools/${name}`, `#!/bin/sh\npwd >> ${places}\n`, 0o755);
  }
  vi.stubEnv("PATH", `${directory}/tools:/usr/bin:/bin`);
  const before = process.cwd();
  try {
    process.chdir(workspace);
    for (const name of Object.keys(presets)) resolvePolicy(name, { workspace });
  } finally {
    process.chdir(before);
  }
  expect(new Set(spawnSync("cat", [places], { encoding: "utf8" }).stdout.split("\n"))).toEqual(
    new Set(["/", ""]),
  );
});

test("no preset grants a secret at home, nor lets anything there be written", () => {
  const secrets =
    ".ssh/id_ed25519 .aws/credentials .netrc .npmrc .pypirc .git-credentials .docker/config.json .kube/config " +
    ".config/gh/hosts.yml .config/git/credentials .config/pip/pip.conf .config/npm/npmrc .cargo/credentials.toml " +
    ".cargo/config.toml .local/share/keyrings/login.keyring .local/share/opencode/auth.json .claude.json " +
    ".claude/settings.json .claude/.credentials.json .codex/auth.json .codex/config.toml .aider.conf.yml .env " +
    ".config/opencode/opencode.json .bash_history .gnupg/secring.gpg .vault-token .config/gcloud/credentials.db";
  for (const name of secrets.split(" ")) put(`home/${name}`, "secret");
  const programs = "git go node npm python3 rustc cargo claude codex opencode aider rg";
  for (const bin of [".local/bin", ".cargo/bin", ".npm-global/bin", "go/bin"]) {
    for (const name of programs.split(" ")) put(`home/${bin}/${name}`, "\u007FELF", 0o755);
    vi.stubEnv("HOME", path.join(directory, "home"));
    vi.stubEnv("PATH", `${directory}/home/${bin}:/usr/bin:/bin`);
    for (const preset of Object.keys(presets)) {
      const { read, write, exec } = resolvePolicy(preset, { workspace });
      const readable = [...read, ...write, ...exec].filter((grant) => grant.startsWith("/"));
      for (const name of secrets.split(" ")) {
        const found = readable.filter((grant) => isBelow(`${directory}/home/${name}`, grant));
        expect(found, `${preset} with programs in ${bin}: ${name}`).toEqual([]);
      }
      expect(new Set(["$SCRATCH", workspace, ...write])).toEqual(new Set(["$SCRATCH", workspace]));
    }
  }
});

describe("no preset grants the home directory", () => {
  const variables = ["RUSTUP_HOME", "CARGO_HOME", "GOROOT", "GOPATH", "GIT_EXEC_PATH", "NVM_DIR"];
  variables.push("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "PYTHONUSERBASE", "VIRTUAL_ENV");

  beforeEach(() => {
    mkdirSync(path.join(directory, "home"));
    vi.stubEnv("HOME", path.join(directory, "home"));
  });

  test.for(["/", "$HOME", "$HOME/", "$HOME/..", ".", ""])("whatever variables say: %j", (text) => {
    const value = text.replace("$HOME", path.join(directory, "home"));
    for (const name of variables) vi.stubEnv(name, value);
    expect(tooWide()).toEqual([]);
  });

  test.for(["bin", ".local/bin", ".local/share/pnpm", "."])(
    "wherever programs are: ~/%s",
    (bin) => {
      const names = "node npm pnpm yarn git go rustc cargo claude codex opencode aider python3";
      for (const name of names.split(" ")) put(`home/${bin}/${name}`, "\u007fELF", 0o755);
      vi.stubEnv("PATH", `${directory}/home/${bin}:/usr/bin:/bin`);
      expect(tooWide()).toEqual([]);
    },
  );

  test("nor that of a Node that is installed for one user, whose packages are found", () => {
    const prefix = path.join(directory, "home/.local");
    put("home/.local/bin/node", "\u007fELF", 0o755);
    put("home/.local/lib/node_modules/npm/bin/npm-cli.js", "", 0o755);
    symlinkSync("../lib/node_modules/npm/bin/npm-cli.js", `${prefix}/bin/npm`);
    vi.stubEnv("PATH", `${prefix}/bin:/usr/bin:/bin`);
    const { read } = resolvePolicy("node", { workspace });
    expect(read).toContain(`${prefix}/lib/node_modules`);
    expect(tooWide()).toEqual([]);
  });
});

describe("on macOS", () => {
  const home = "/Users/someone";
  const brew = "/opt/homebrew";
  const cellar: Readonly<Record<string, string>> = {
    node: `${brew}/Cellar/node/24.15.0/bin/node`,
    npm: `${brew}/lib/node_modules/npm/bin/npm-cli.js`,
    git: "/usr/bin/git",
    go: `${brew}/Cellar/go/1.25.0/libexec/bin/go`,
    python3: `${brew}/Cellar/python@3.14/3.14.0/Frameworks/Python.framework/Versions/3.14/bin/python3.14`,
    rustc: `${home}/.cargo/bin/rustup`,
    claude: `${home}/.local/share/claude/versions/2.0.0`,
    codex: `${brew}/Cellar/codex/0.169.0/bin/codex`,
  };
  const framework = cellar["python3"]?.replace("/bin/python3.14", "") ?? "";
  const answers: Readonly<Record<string, string>> = {
    git: "/Library/Developer/CommandLineTools/usr/libexec/git-core",
    go: `${brew}/Cellar/go/1.25.0/libexec`,
    python3: [
      cellar["python3"],
      `${brew}/bin/python3`,
      framework,
      `${home}/Library/Python/3.14/lib/python/site-packages`,
    ].join("\n"),
    rustc: `${home}/.rustup/toolchains/stable-aarch64-apple-darwin`,
  };

  /** What such a machine answers; what it has is whatever a policy names by an absolute path. */
  class Mac extends Host {
    override readonly home = home;
    override program = (name: string): string | undefined => cellar[name];
    override link = (name: string): string | undefined => cellar[name] && `${brew}/bin/${name}`;
    override ask = (name: string): string | undefined => answers[name];
    override exists = (name: string): boolean => !name.endsWith("pyvenv.cfg");
  }
  const mac = new Mac(`${home}/work`, () => "/private/tmp/scratch");

  function granted(name: string): { read: string[]; exec: string[] } {
    const { read = [], exec = [] } = presets[name]?.policy(mac) ?? {};
    return { read: expandPaths(read, mac, name), exec: expandPrograms(exec, mac, name) };
  }

  test.for([
    ["node", `${brew}/Cellar`, `${brew}/opt`],
    ["python", framework, `${home}/Library/Python/3.14/lib/python/site-packages`],
    ["git", "/Library/Developer/CommandLineTools", `${home}/.gitconfig`],
    ["go", `${brew}/Cellar/go/1.25.0/libexec`],
    ["rust", `${home}/.rustup/toolchains`, "/Library/Developer/CommandLineTools"],
  ])("%s reads what it needs there", ([name = "", ...needed]) => {
    expect(granted(name).read).toEqual(expect.arrayContaining(needed));
  });

  test.for(["git", "rust", "go"])(
    "%s executes Apple's tools, which /usr/bin only finds",
    (name) => {
      expect(granted(name).exec).toContain("/Library/Developer/CommandLineTools");
    },
  );

  test.for(Object.keys(presets))("%s grants nothing private", (name) => {
    const { read, exec } = granted(name);
    const secrets = ["Library/Keychains", "Library/Application Support", ".ssh", "Documents"];
    for (const grant of [...read, ...exec].filter((text) => text.startsWith("/"))) {
      if (grant === mac.workspace) continue;
      const reached = secrets.filter((secret) => isBelow(`${home}/${secret}`, grant));
      expect(reached, `${grant} of ${name}`).toEqual([]);
    }
  });
});
