// The one definition of a policy file. `pnpm --filter @nono/sdk schema` makes policy.schema.json from
// it, comments included; that file is committed and published.
import type { GuaranteeName, Limits } from "@nono/core";

/**
 * What commands may do, as a file (JSON with comments) or a plain object. All that is not listed is
 * refused.
 *
 * Paths may begin with a variable: `$WORKSPACE` (where the work is done), `$HOME`, `$SCRATCH` (a
 * temporary directory of the sandbox's own). Relative paths are below `$WORKSPACE`. A path or program
 * with a `?` at its end is left out when this machine does not have it, so that one file serves many
 * machines.
 *
 * @example
 * ```ts
 * const policy: Policy = {
 *   extends: ["node", "git"],
 *   write: ["$WORKSPACE"],
 *   network: { allow: ["registry.npmjs.org"] },
 * };
 * ```
 */
export interface Policy {
  /** For editors: the address of the JSON Schema. */
  readonly $schema?: string;
  /**
   * Policies that this one adds to, in order: names of presets (`nono policy list`), or paths of other
   * policy files, relative to this one.
   */
  readonly extends?: string | readonly string[];
  /** Files that may be read; directories with all below them. */
  readonly read?: readonly string[];
  /** Directories below which all may be read, created, changed and deleted; files that may be changed. */
  readonly write?: readonly string[];
  /** Programs that may be executed: paths of files or directories, or names looked up in `PATH`. */
  readonly exec?: readonly string[];
  /**
   * What stays refused inside what is allowed: paths, or patterns such as `$WORKSPACE/**\/.env` or
   * `**\/*.pem`, which hold everywhere.
   */
  readonly deny?: readonly string[];
  /** Unix sockets of this machine that may be connected to. */
  readonly unixSockets?: readonly string[];
  /** `"blocked"` (the default), the hosts that may be reached, or `"open"`: every network. */
  readonly network?: "blocked" | "open" | NetworkAccess;
  /** Ports of services on this machine's loopback that commands reach. */
  readonly localhostPorts?: readonly number[];
  /** Ports on which commands run servers that this machine shall reach, on 127.0.0.1. */
  readonly publish?: readonly number[];
  /** Credentials that commands may use and never see. */
  readonly credentials?: readonly PolicyCredential[];
  /** The environment of commands. */
  readonly env?: PolicyEnvironment;
  /** Limits of what commands may use up. */
  readonly limits?: Limits;
  /** Whether the state of the writable directories is kept, so that it can be brought back. */
  readonly rollback?: boolean | PolicyRollback;
  /** Guarantees whose absence on a machine is accepted; else such a machine refuses. */
  readonly allowDegraded?: readonly GuaranteeName[];
  /**
   * Whether names that programs outside take orders from (git hooks, `.vscode`, `.mcp.json`, `.envrc` …)
   * stay as they are in writable directories. Default: true.
   */
  readonly protect?: boolean;
  /** Whether commands have a `/tmp` of their own where that is possible. Default: true. */
  readonly privateTmp?: boolean;
  /**
   * Whether the system's libraries, locale, time zones and certificates may be read. Default: true.
   */
  readonly baseProfile?: boolean;
}

/** Which hosts commands may reach, through the gate of `@nono/proxy`. */
export interface NetworkAccess {
  /** `host`, `host:port`, `*.suffix`, addresses and CIDR ranges; without a port: 443 and 80. */
  readonly allow: readonly string[];
  /** The same forms; they win over `allow`. */
  readonly deny?: readonly string[];
  /** What may be asked of a host. */
  readonly rules?: readonly NetworkRule[];
}

/** What may be asked of a host, when it is not everything. */
export interface NetworkRule {
  /** As in `allow`. */
  readonly host: string;
  /** Methods and paths, such as `GET /repos/**`; when given, nothing else may be asked. */
  readonly allow?: readonly string[];
  /** They win over `allow`. */
  readonly deny?: readonly string[];
}

/** A credential that commands may use and never see. */
export interface PolicyCredential {
  /** The environment variable in which commands find the stand-in. */
  readonly name: string;
  /** The hosts it is for. */
  readonly proxyTo: string | readonly string[];
  /**
   * How it is presented: `"bearer"` (the default), `"basic"`, `"aws-sigv4"`, or a header of its own, in
   * which `{}` stands for the value.
   */
  readonly scheme?: "bearer" | "basic" | "aws-sigv4" | HeaderScheme;
  /** Where the value comes from. Default: the keychain's entry `name` of the service `nono`. */
  readonly from?: PolicySource;
}

/** A credential in a header of its own. */
export interface HeaderScheme {
  /** The name of the header. */
  readonly header: string;
  /** Its value, with `{}` for the credential. Default: the credential alone. */
  readonly template?: string;
}

/** Where a credential comes from; exactly one of them. */
export type PolicySource =
  | {
      /** An entry of this machine's keychain. */
      readonly keychain: {
        /** Its account. */
        readonly account: string;
        /** Its service. Default: `nono`. */
        readonly service?: string;
      };
    }
  | {
      /** An environment variable of nono itself. */
      readonly env: string;
    }
  | {
      /** A file that only its owner may read. */
      readonly file: string;
    }
  | {
      /** What a command prints, such as `["gh", "auth", "token"]`. */
      readonly command: readonly string[];
    };

/** The environment of commands. */
export interface PolicyEnvironment {
  /** Names passed on from nono's own environment; a `*` at the end stands for any rest. */
  readonly allow?: readonly string[];
  /**
   * Variables with their values. In a value, `$WORKSPACE`, `$HOME`, `$SCRATCH` and `$PATH` stand for what
   * they are; `$$` for a dollar.
   */
  readonly set?: Readonly<Record<string, string>>;
}

/** How the state of the writable directories is kept. */
export interface PolicyRollback {
  /** What is left alone, in the manner of `.gitignore` without negation. */
  readonly exclude?: readonly string[];
}
