import { execFile } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { type CredentialSource, sourceError } from "../credentials/source.ts";

const run = promisify(execFile);
const maxBytes = 65_536;

/**
 * An environment variable of this process (never of the sandbox).
 *
 * @example
 * createGate({
 *   allow: ["api.github.com"],
 *   credentials: [{ name: "GITHUB_TOKEN", proxyTo: "api.github.com", source: fromEnv("GH_TOKEN") }],
 * });
 */
export function fromEnv(variable: string): CredentialSource {
  const description = `environment variable ${variable}`;
  return {
    description,
    read: async () => {
      const value = process.env[variable];
      if (value === undefined || value === "") throw missing(description, `Set ${variable}.`);
      return Buffer.from(value);
    },
  };
}

/**
 * A file that only its owner may read; one line end at its end is not part of the value.
 *
 * @example
 * fromFile("/run/secrets/github-token");
 */
export function fromFile(name: string): CredentialSource {
  const description = `file ${name}`;
  return {
    description,
    read: async () => {
      const file = await open(name, "r").catch((error: unknown) => {
        throw missing(description, "Check the path and its permissions.", error);
      });
      try {
        // The opened file is judged, not the path: nothing can be put in between.
        const { mode, size } = await file.stat();
        if (mode & 0o077) {
          throw sourceError(
            "ERR_NONO_CREDENTIAL_INVALID",
            `The ${description} can be read by others (mode ${(mode & 0o777).toString(8)}).`,
            `chmod 600 ${name}`,
          );
        }
        if (size > maxBytes) throw tooLong(description);
        return trimmed(await file.readFile(), description);
      } finally {
        await file.close();
      }
    },
  };
}

/**
 * What a command prints. No shell is involved. Where it is, is found out at once: when the value is read, agents
 * are at work, who may be able to write into a directory of `PATH` (`npx` has that of the project in it).
 *
 * @param argv The program, then its arguments: an absolute path, one from the current directory on, or a name
 *   that is looked up in the absolute directories of `PATH`.
 * @example
 * fromCommand(["gh", "auth", "token"], { ttlSeconds: 300 })
 */
export function fromCommand(
  argv: readonly [string, ...string[]],
  options: {
    /** For how long the value is kept. Default: as long as the gate. */
    ttlSeconds?: number;
    /** Milliseconds. Default: 30 000. */
    timeout?: number;
    /** Where it begins. Default: the directory that is the current one when it is run. */
    cwd?: string;
  } = {},
): CredentialSource {
  const [command, ...args] = argv;
  const file = located(command);
  const description = `command ${command}`;
  return {
    description,
    ...(options.ttlSeconds === undefined ? {} : { ttl: options.ttlSeconds * 1_000 }),
    read: async () => {
      try {
        if (file === undefined) throw missing(description, "Install it, or give its path.");
        const { stdout } = await run(file, args, {
          encoding: "buffer",
          timeout: options.timeout ?? 30_000,
          maxBuffer: maxBytes,
          ...(options.cwd !== undefined && { cwd: options.cwd }),
        });
        return trimmed(stdout, description);
      } catch (error) {
        if ((error as { code?: unknown }).code?.toString().startsWith("ERR_NONO_")) throw error;
        // The error of execFile carries what the command printed: it is not passed on.
        const { code, signal } = error as { code?: string | number; signal?: string };
        throw missing(description, `It failed (${signal ?? code ?? "unknown"}): run it by hand.`);
      }
    },
  };
}

/**
 * A secret of 1Password by reference (`op://vault/item/field`), through its command `op`.
 *
 * @example
 * fromOnePassword("op://Agents/GitHub/token");
 */
export function fromOnePassword(reference: `op://${string}`): CredentialSource {
  const source = fromCommand(["op", "read", "--no-newline", reference]);
  return { ...source, description: `1Password ${reference}` };
}

/**
 * A field of a HashiCorp Vault secret, through its command `vault`: `vault:secret/path#field`.
 *
 * @throws GateError `ERR_NONO_CREDENTIAL_MISSING` when the reference has another form
 * @example
 * fromVault("vault:secret/agents/github#token");
 */
export function fromVault(reference: `vault:${string}`): CredentialSource {
  const match = /^vault:([^#]+)#([^#]+)$/.exec(reference);
  if (!match) throw missing(`Vault ${reference}`, "Write vault:path#field.");
  const [, secret = "", field = ""] = match;
  const source = fromCommand(["vault", "kv", "get", `-field=${field}`, secret]);
  return { ...source, description: `Vault ${secret}#${field}` };
}

/** Its path; undefined: there is none. */
function located(command: string): string | undefined {
  if (command.includes("/")) return path.resolve(command);
  return (process.env["PATH"] ?? "")
    .split(path.delimiter)
    .filter((directory) => path.isAbsolute(directory))
    .map((directory) => path.join(directory, command))
    .find(isProgram);
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function trimmed(bytes: Buffer, description: string): Buffer {
  const end = bytes.at(-1) === 10 ? (bytes.at(-2) === 13 ? -2 : -1) : bytes.length;
  const value = bytes.subarray(0, end);
  if (value.length === 0) throw missing(description, "It is empty.");
  return value;
}

function missing(description: string, remedy: string, cause?: unknown): Error {
  return sourceError(
    "ERR_NONO_CREDENTIAL_MISSING",
    `No value could be read from ${description}.`,
    remedy,
    cause,
  );
}

function tooLong(description: string): Error {
  return sourceError(
    "ERR_NONO_CREDENTIAL_INVALID",
    `The ${description} is longer than ${maxBytes} bytes.`,
    "Store only the secret in it.",
  );
}
