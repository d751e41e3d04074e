// What no learned policy grants, however often a command asks for it.
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  statSync,
} from "node:fs";
import path from "node:path";
import process from "node:process";
import type { Suggestion } from "@nono/core";
import { homeDirectory } from "../home.ts";
import { patternBelow } from "../policy/pattern.ts";
import { isBelow, stateDirectory } from "../state.ts";

/** Why something is not granted; see {@link LearnedRefusal.why}. */
export type RefusalReason =
  | "secret"
  | "too-broad"
  | "system"
  | "control"
  | "protected"
  | "denied"
  | "volatile"
  | "not-undoable"
  | "network"
  | "system-call";

/** What programs keep tokens, keys and passwords in, below the home directory. */
const secretsAtHome = [
  ".ssh",
  ".gnupg",
  ".aws",
  ".azure",
  ".kube",
  ".docker",
  ".netrc",
  ".npmrc",
  ".yarnrc.yml",
  ".pypirc",
  ".pgpass",
  ".my.cnf",
  ".git-credentials",
  ".password-store",
  ".vault-token",
  ".bash_history",
  ".zsh_history",
  ".mozilla",
  ".cargo/credentials",
  ".cargo/credentials.toml",
  ".gem/credentials",
  ".m2/settings.xml",
  ".terraform.d/credentials.tfrc.json",
  ".claude/.credentials.json",
  ".codex/auth.json",
  ".cache/huggingface/token",
  ".local/share/keyrings",
  ".config/gh",
  ".config/hub",
  ".config/glab-cli",
  ".config/gcloud",
  ".config/git/credentials",
  ".config/containers/auth.json",
  ".config/rclone",
  ".config/sops",
  ".config/op",
  ".config/google-chrome",
  ".config/chromium",
];

/** The same for the machine. */
const secretsOfSystem = [
  "/etc/shadow",
  "/etc/shadow-",
  "/etc/gshadow",
  "/etc/gshadow-",
  "/etc/sudoers",
  "/etc/sudoers.d",
  "/etc/ssl/private",
  "/etc/pki/tls/private",
  "/run/secrets",
  "/var/run/secrets",
  "/var/lib/secrets",
];

/** Names of keys and of files of variables, wherever they are; as patterns for `deny`, too. */
export const secretNames: readonly string[] = [
  "id_rsa",
  "id_dsa",
  "id_ecdsa",
  "id_ed25519",
  "ssh_host_*_key",
  "privkey*.pem",
  "*.key",
  "*.p12",
  "*.pfx",
  "*.jks",
  "*.keystore",
  "*.kdbx",
  ".env",
  ".env.*",
];
const secretName = new RegExp(
  `^(${secretNames.map((name) => name.replaceAll(".", "\\.").replaceAll("*", ".*")).join("|")})$`,
);

/** Directories at home in which every tool has one of its own. */
const sharedAtHome = [".config", ".cache", ".local", ".local/share", ".local/state", ".local/lib"];
/** Programs in these start by themselves, or by their names. */
const startedAtHome = [
  "bin",
  ".local/bin",
  ".cargo/bin",
  ".cargo/env",
  ".config/autostart",
  ".config/systemd",
];
/** Below these, nothing is for a command to change. */
const system = "/etc /usr /bin /sbin /lib /lib32 /lib64 /boot /sys /proc /dev /var /run /opt".split(
  " ",
);
const changeable = ["/var/tmp", `/run/user/${process.getuid?.()}`];
/** Whoever speaks to one of these commands the machine, the session or the user's keys. */
const controlSocket =
  /\/(docker|podman|containerd|crio|libvirt[^/]*)\.sock$|\/dbus\/|\/bus$|\/systemd\/|\/keyring\/|\/gnupg\/|\/(ssh|agent)[^/]*$|-ssh|\/\.X11-unix\//;

/** What systems and packages bring: much, and the keys in it are of their tests. */
const publicPlace =
  /^\/(usr|lib\w*|sys)(\/|$)|\/(node_modules|lib\/python3\.\d+|(site|dist)-packages)(\/|$)/;
/** How much of a directory is looked through for secrets. */
const mostEntries = 200_000;

/** Decides what is never granted, for one workspace. Paths are canonical. */
export class Never {
  readonly #workspace: string;
  readonly #home = canonical(homeDirectory());
  readonly #secrets: readonly string[];
  /** Directories that were looked through, and whether there is a secret in them. */
  readonly #searched = new Map<string, boolean>();

  constructor(workspace: string) {
    this.#workspace = workspace;
    const atHome = secretsAtHome.map((name) => path.join(this.#home, name));
    const named = [...atHome, ...secretsOfSystem, stateDirectory()];
    this.#secrets = [...new Set(named.flatMap((name) => [name, canonical(name)]))];
  }

  /** Paths of secrets, and patterns for them: to be denied where all else may be read. */
  get secretPatterns(): string[] {
    const places = this.#secrets.map((name) => patternBelow(name, ""));
    return [...places, ...secretNames.map((name) => `**/${name}`)];
  }

  /** Why `name` must not be read; undefined: it may be. */
  reading(name: string): RefusalReason | undefined {
    if (this.#isSecret(name)) return "secret";
    if (/^\/proc\/\d+(\/|$)/.test(name) || !existsSync(name)) return "volatile";
    if (!isDirectory(name)) return undefined;
    if (this.isBroad(name)) return "too-broad";
    return this.holdsSecrets(name) ? "secret" : undefined;
  }

  /** Why `name` must not be written to; undefined: it may be. */
  writing(name: string): RefusalReason | undefined {
    if (isBelow(name, this.#workspace)) return existsSync(name) ? undefined : "volatile";
    return this.#isOthers(name) ? "system" : this.reading(name);
  }

  /**
   * Why nobody should grant what a refusal suggests, as far as its name says: directories are not looked
   * through. Undefined: nothing speaks against it.
   */
  granting({ capability, value }: Suggestion): RefusalReason | undefined {
    const name = String(value);
    if (capability === "unixSockets") return controlSocket.test(name) ? "control" : undefined;
    if (capability !== "read" && capability !== "write") return undefined;
    if (this.#isSecret(name)) return "secret";
    const isOutside = !isBelow(name, this.#workspace);
    if (capability === "write" && isOutside && this.#isOthers(name)) return "system";
    return isDirectory(name) && this.isBroad(name) ? "too-broad" : undefined;
  }

  /** Whether programs of others come from there, or change it: the system's, and what starts by itself. */
  #isOthers(name: string): boolean {
    const started = startedAtHome.map((directory) => path.join(this.#home, directory));
    const outOfBounds = [...started, ...system.filter((top) => !isBelow(this.#home, top))];
    const isOwn = changeable.some((directory) => name !== directory && isBelow(name, directory));
    // Programs of others come from there, and would run what is put there.
    const holdsStarted = started.some((at) => isBelow(at, name) && existsSync(at));
    const isBelowOne = publicPlace.test(name) || outOfBounds.some((top) => isBelow(name, top));
    return !isOwn && (isBelowOne || (holdsStarted && !this.isBroad(name)));
  }

  /** Why a unix socket must not be connected to. */
  connecting(name: string): RefusalReason | undefined {
    if (controlSocket.test(name)) return "control";
    return existsSync(name) ? undefined : "volatile";
  }

  /** Whether a directory is more than any one program's: the system's, the home, a shared one in it. */
  isBroad(directory: string): boolean {
    const shared = sharedAtHome.map((name) => path.join(this.#home, name));
    if ([this.#home, this.#workspace].some((inner) => isBelow(inner, directory))) {
      return directory !== this.#workspace;
    }
    if (shared.includes(directory)) return true;
    const depth = directory.split("/").length - 1;
    if (isBelow(directory, this.#home)) return false;
    return depth < (/^\/(var|run|home|mnt|media|srv|proc)(\/|$)/.test(directory) ? 3 : 2);
  }

  /** Whether there are secrets in a directory; what is too large to look through may have some. */
  holdsSecrets(directory: string): boolean {
    const known = this.#searched.get(directory);
    const found = known ?? this.#findsSecretIn(directory);
    this.#searched.set(directory, found);
    return found;
  }

  #findsSecretIn(directory: string): boolean {
    if (this.#secrets.some((secret) => isBelow(secret, directory) && existsSync(secret))) {
      return true;
    }
    if (publicPlace.test(directory)) return false;
    let left = mostEntries;
    const waiting = [directory];
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      for (const entry of entriesOf(at)) {
        if ((left -= 1) < 0) return true;
        const name = path.join(at, entry.name);
        if (entry.isDirectory() && !publicPlace.test(name)) waiting.push(name);
        else if (entry.isFile() && this.#isSecret(name)) return true;
      }
    }
    return false;
  }

  #isSecret(name: string): boolean {
    if (this.#secrets.some((secret) => isBelow(name, secret))) return true;
    const base = path.basename(name);
    if (secretName.test(base) || /^\/proc\/\d+\/environ$/.test(name)) return true;
    return base.endsWith(".pem") && holdsPrivateKey(name);
  }
}

/** Certificates have the same ending (RFC 7468), and everyone may read them. */
function holdsPrivateKey(name: string): boolean {
  try {
    // A pipe may have nobody at its other end: it is not waited for.
    const file = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const begin = Buffer.alloc(64 * 1024);
      const length = readSync(file, begin, 0, begin.length, 0);
      return begin.subarray(0, length).includes("PRIVATE KEY-----");
    } finally {
      closeSync(file);
    }
  } catch {
    return true; // unreadable to its owner's own programs: not to be given to others
  }
}

/** Without symbolic links, as attempts are told; as it is, if it does not exist. */
function canonical(name: string): string {
  try {
    return realpathSync(name);
  } catch {
    return name;
  }
}

function entriesOf(directory: string): import("node:fs").Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}

function isDirectory(name: string): boolean {
  return statSync(name, { throwIfNoEntry: false })?.isDirectory() === true;
}
