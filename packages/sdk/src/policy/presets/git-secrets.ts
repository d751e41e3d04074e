// A user's configuration of git without the secrets that people keep in it: tokens in addresses, headers,
// passwords of mail servers.
import { readFileSync } from "node:fs";
import type { Host } from "../host.ts";

/** Names of settings that hold one, whatever the section; `core.askPass` is a program. */
const secretName =
  /(token|(?<!ask)pass(word|wd|phrase)?|secret|oauth|apikey|extraheader|cookiefile)$/i;

/** A user in an address, whose name may be a token; everybody's `git@` is none. */
const secretAddress = /https?:\/\/(?!git@)[^/\s"']*@/i;

/** Helpers that are given one on their command line. */
const secretHelper = /(password|token|secret)=/i;

/** What names other files: they have been read. */
const inclusion = /^include(if\..*)?\.path$/i;

/** Whether a file may hold some; so that git is asked only about those. */
function mayHoldSecrets(file: string): boolean {
  try {
    return /token|pass|secret|oauth|apikey|extraheader|cookiefile|:\/\/[^/\s"']*@/i.test(
      readFileSync(file, "utf8"),
    );
  } catch {
    return false;
  }
}

/** Whether there are any in a file, in which included ones do not count. */
export function holdsSecrets(host: Host, file: string): boolean {
  return mayHoldSecrets(file) && settingsOf(host, file, "--no-includes").some(isSecret);
}

/**
 * The variables by which git has the settings of `files`, and of those that they include, but for the secrets; and
 * reads no configuration of the user's (git-config(1), "ENVIRONMENT").
 */
export function withoutSecrets(host: Host, files: readonly string[]): Record<string, string> {
  const settings = files
    .flatMap((file) => settingsOf(host, file, "--includes"))
    .filter((setting) => !isSecret(setting) && !inclusion.test(setting.name));
  const numbered = settings.flatMap(({ name, value }, at) => [
    [`GIT_CONFIG_KEY_${at}`, literal(name)],
    [`GIT_CONFIG_VALUE_${at}`, literal(value)],
  ]);
  return {
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_COUNT: String(settings.length),
    ...(Object.fromEntries(numbered) as Record<string, string>),
  };
}

interface Setting {
  readonly name: string;
  readonly value: string;
}

function settingsOf(host: Host, file: string, includes: string): Setting[] {
  const said = host.ask("git", ["config", "--file", file, includes, "--null", "--list"]);
  const entries = said?.split("\0").filter((entry) => entry !== "") ?? [];
  return entries.map((entry) => {
    const at = entry.indexOf("\n");
    // A name alone means yes.
    return at < 0
      ? { name: entry, value: "true" }
      : { name: entry.slice(0, at), value: entry.slice(at + 1) };
  });
}

function isSecret({ name, value }: Setting): boolean {
  return (
    secretName.test(name) ||
    [name, value].some((text) => secretAddress.test(text)) ||
    secretHelper.test(value)
  );
}

/** As `env.set` of a policy says it. */
function literal(text: string): string {
  return text.replaceAll("$", "$$$$");
}
