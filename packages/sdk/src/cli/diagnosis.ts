// What `nono doctor` looks at, and what it advises.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import process from "node:process";
import type { Support } from "@nono/core";
import { makeDirectory, stateDirectory } from "../state.ts";
import { listEntries } from "./keychain-entries.ts";

/** One thing that was looked at. */
export interface Finding {
  readonly what: string;
  /** `gap`: something does not work, and nothing else depends on it. `broken`: nothing can be run. */
  readonly status: "ok" | "gap" | "broken";
  readonly detail: string;
  readonly remedy?: string;
}

/** Landlock ABI with which nothing of what nono uses is missing: signal scoping, Linux 6.12. */
const fullLandlock = 6;

/** The version of Node that runs this. */
export function checkNode(): Finding {
  return {
    what: "node",
    status: "ok",
    detail: `${process.version} on ${process.platform}-${process.arch}`,
  };
}

/** Landlock, seccomp and namespaces. */
export function checkKernel(support: Support): Finding[] {
  const { kernel, landlockAbi, seccompNotify, tiers } = support;
  const anyTier = tiers.some(({ available }) => available);
  return [
    landlock(kernel, landlockAbi),
    {
      what: "seccomp",
      status: seccompNotify ? "ok" : "gap",
      detail: seccompNotify ? "with user notification" : "without user notification",
      ...(!seccompNotify && {
        remedy: "Use Linux 5.0 or newer, or a container profile that lets seccomp(2) through.",
      }),
    },
    namespaces(support),
    ...(anyTier
      ? []
      : [
          {
            what: "tiers",
            status: "broken" as const,
            detail: tiers
              .map(({ name, reason }) => `${name}: ${reason ?? "not available"}`)
              .join("; "),
            remedy: "Nothing can be enforced here, so nothing will be run. See the lines above.",
          },
        ]),
  ];
}

function landlock(kernel: string, abi: number): Finding {
  const detail = abi === 0 ? `none (Linux ${kernel})` : `ABI ${abi} (Linux ${kernel})`;
  if (abi >= fullLandlock) return { what: "landlock", status: "ok", detail };
  return {
    what: "landlock",
    status: abi === 0 ? "broken" : "gap",
    detail,
    remedy:
      abi === 0
        ? "Use Linux 5.13 or newer with landlock in its lsm= list (cat /sys/kernel/security/lsm)."
        : "Linux 6.12 or newer enforces more; the guarantees below say what is missing.",
  };
}

function namespaces({ userNamespaces, tiers }: Support): Finding {
  const what = "namespaces";
  const { available, reason } = tiers.find(({ name }) => name === "namespaces") ?? {};
  if (available) return { what, status: "ok", detail: "can be made" };
  return {
    what,
    status: "gap",
    detail: userNamespaces
      ? `${reason ?? "not enough of them"}; the tier flat is used`
      : "no user namespace can be made; the tier flat is used",
    remedy: whyNoNamespaces(userNamespaces),
  };
}

/** The usual reasons, most specific first; `empty`: one can be made, but without the rights in it. */
function whyNoNamespaces(empty: boolean): string {
  if (setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") === "1") {
    return "AppArmor restricts them (Ubuntu 23.10 and newer): an AppArmor profile for node with `userns,` lifts that for node alone.";
  }
  if (setting("/proc/sys/kernel/unprivileged_userns_clone") === "0") {
    return "sysctl kernel.unprivileged_userns_clone=1 allows them (Debian's own switch).";
  }
  if (setting("/proc/sys/user/max_user_namespaces") === "0") {
    return "sysctl user.max_user_namespaces is 0: raise it.";
  }
  if (existsSync("/.dockerenv") || existsSync("/run/.containerenv")) {
    // Where parts of /proc are hidden, no other may be mounted (`mount_too_revealing` in fs/namespace.c).
    return empty
      ? "This container hides parts of /proc: --security-opt systempaths=unconfined shows them; but nothing needs to be done."
      : "This is a container, whose seccomp profile refuses them; nothing needs to be done.";
  }
  return "The kernel or a security module refuses them; nothing needs to be done.";
}

function setting(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Whether credentials can come from the keychain. */
export async function checkKeychain(): Promise<Finding> {
  const what = "keychain";
  try {
    const entries = await listEntries("nono");
    return { what, status: "ok", detail: `${entries.length} entries of nono` };
  } catch (error) {
    return {
      what,
      status: "gap",
      detail: error instanceof Error ? error.message : String(error),
      remedy:
        "Only needed for credentials from the keychain; a policy can take them from env, file or command.",
    };
  }
}

/** Whether records and checkpoints can be kept. */
export function checkState(): Finding {
  const directory = stateDirectory();
  const what = "records";
  try {
    makeDirectory(directory);
    accessSync(directory, constants.W_OK);
    return { what, status: "ok", detail: directory };
  } catch (error) {
    return {
      what,
      status: "gap",
      detail: `${directory} can't be written (${(error as NodeJS.ErrnoException).code ?? "unknown"})`,
      remedy: "Set XDG_STATE_HOME to a directory of yours, or run with --no-audit.",
    };
  }
}
