import type { CredentialScheme } from "./credential.ts";
import { shortestSecret } from "./masker.ts";
import { SingleFlight } from "./single-flight.ts";
import { sourceError } from "./source.ts";

type OAuth2Scheme = Extract<CredentialScheme, { type: "oauth2" }>;

/** Posts a form and returns the JSON answer; the gate gives one that goes through its own dialler. */
export type TokenRequest = (url: string, form: URLSearchParams) => Promise<unknown>;

interface AccessToken {
  readonly token: string;
  readonly expires: number;
}

interface Client {
  readonly clientId: string;
  readonly clientSecret?: string;
  readonly refreshToken?: string;
}

/** Seconds before its end at which an access token is no longer used. */
const margin = 30;
/** Seconds; RFC 6749 section 5.1 only recommends `expires_in`. */
const defaultLifetime = 300;

/** Access tokens obtained by the client-credentials and refresh-token grants (RFC 6749 sections 4.4 and 6). */
export class AccessTokens {
  readonly #request: TokenRequest;
  readonly #tokens = new Map<string, AccessToken>();
  readonly #obtaining = new SingleFlight<string>();
  /** Servers may rotate a refresh token at every use; the newest replaces the stored one. */
  readonly #rotated = new Map<string, string>();

  constructor(request: TokenRequest) {
    this.#request = request;
  }

  /** @throws GateError `ERR_NONO_CREDENTIAL_INVALID`, `ERR_NONO_CREDENTIAL_STORE` */
  async obtain(
    name: string,
    scheme: OAuth2Scheme,
    stored: string,
  ): Promise<{ token: string; secrets: string[] }> {
    const client = parseClient(name, stored);
    const kept = this.#tokens.get(name);
    const token =
      kept && kept.expires > Date.now()
        ? kept.token
        : await this.#obtaining.run(name, () => this.#ask(name, scheme, client));
    const inUse = [client.clientSecret, client.refreshToken, this.#rotated.get(name)];
    const secrets = inUse.filter((text) => text !== undefined);
    return { token, secrets: secrets.filter(({ length }) => length >= shortestSecret) };
  }

  async #ask(name: string, scheme: OAuth2Scheme, client: Client): Promise<string> {
    const { clientId, clientSecret } = client;
    const refresh = this.#rotated.get(name) ?? client.refreshToken;
    const form = new URLSearchParams({ grant_type: "client_credentials", client_id: clientId });
    if (clientSecret !== undefined) form.set("client_secret", clientSecret);
    if (refresh !== undefined) {
      form.set("grant_type", "refresh_token");
      form.set("refresh_token", refresh);
    }
    if (scheme.scope !== undefined) form.set("scope", scheme.scope);
    const answer = (await this.#request(scheme.tokenUrl, form)) as Record<string, unknown>;
    const { access_token: token, expires_in: lifetime, refresh_token: rotated } = answer;
    if (typeof token !== "string" || token.length < shortestSecret) {
      throw sourceError(
        "ERR_NONO_CREDENTIAL_STORE",
        `The token endpoint of ${name} gave no access token.`,
        "Check the client id, its secret and the scope.",
      );
    }
    if (typeof rotated === "string") this.#rotated.set(name, rotated);
    const seconds = typeof lifetime === "number" ? lifetime : defaultLifetime;
    this.#tokens.set(name, { token, expires: Date.now() + Math.max(0, seconds - margin) * 1_000 });
    return token;
  }

  expire(name: string): void {
    this.#tokens.delete(name);
  }

  clear(): void {
    this.#tokens.clear();
    this.#rotated.clear();
  }
}

function parseClient(name: string, stored: string): Client {
  let value: unknown;
  try {
    value = JSON.parse(stored);
  } catch {
    // The parser's message quotes its input, which is the secret.
  }
  const client = value as { clientId?: unknown } | undefined;
  if (typeof client?.clientId !== "string") {
    throw sourceError(
      "ERR_NONO_CREDENTIAL_INVALID",
      `The value of ${name} is not an OAuth 2.0 client.`,
      'Store JSON: {"clientId": ..., "clientSecret": ..., "refreshToken"?: ...}.',
    );
  }
  return client as Client;
}
