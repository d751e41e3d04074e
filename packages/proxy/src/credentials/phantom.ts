import { randomBytes } from "node:crypto";

/** What a phantom looks like; tools check prefixes and lengths before they send anything. */
export type PhantomShape =
  | "github"
  | "gitlab"
  | "openai"
  | "anthropic"
  | "slack"
  | "npm"
  | "pypi"
  | "jwt"
  | "generic";

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

const makers: Readonly<Record<PhantomShape, () => string>> = {
  github: () => `ghp_${random(36)}`,
  gitlab: () => `glpat-${random(20)}`,
  openai: () => `sk-${random(48)}`,
  anthropic: () => `sk-ant-api03-${random(93)}AA`,
  slack: () => `xoxb-${random(12, "0123456789")}-${random(12, "0123456789")}-${random(24)}`,
  npm: () => `npm_${random(36)}`,
  pypi: () => `pypi-${random(64)}`,
  jwt: () => `${segment({ alg: "HS256", typ: "JWT" })}.${segment({ sub: "nono" })}.${random(43)}`,
  generic: () => `nono_${random(40)}`,
};

/** The first whose pattern matches the credential's name or one of its hosts. */
const guesses: readonly (readonly [RegExp, PhantomShape])[] = [
  [/github|^gh_/i, "github"],
  [/gitlab/i, "gitlab"],
  [/anthropic|claude/i, "anthropic"],
  [/openai/i, "openai"],
  [/slack/i, "slack"],
  [/npm/i, "npm"],
  [/pypi|twine/i, "pypi"],
  [/jwt/i, "jwt"],
];

/** A new phantom: as unguessable as a token, worth nothing anywhere but at this gate. */
export function makePhantom(shape: PhantomShape): string {
  return makers[shape]();
}

/** An access key id and a secret key as AWS's tools accept them. */
export function makeAwsPhantom(): { accessKeyId: string; secretAccessKey: string } {
  return {
    accessKeyId: `AKIA${random(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")}`,
    secretAccessKey: random(40),
  };
}

export function guessShape(name: string, hosts: readonly string[]): PhantomShape {
  const texts = [name, ...hosts];
  const found = guesses.find(([pattern]) => texts.some((text) => pattern.test(text)));
  return found?.[1] ?? "generic";
}

function random(length: number, alphabet: string = alphanumeric): string {
  let text = "";
  while (text.length < length) {
    for (const byte of randomBytes(2 * length)) {
      // Bytes beyond the last whole multiple would favour the first letters.
      const usable = byte < 256 - (256 % alphabet.length);
      if (usable && text.length < length) text += alphabet[byte % alphabet.length];
    }
  }
  return text;
}

function segment(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
