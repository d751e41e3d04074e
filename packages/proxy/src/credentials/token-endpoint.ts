import type { Socket } from "node:net";
import { callbackify } from "node:util";
import { GateError } from "../errors.ts";
import { type Endpoint, parseHost } from "../net/host.ts";
import type { UpstreamTrust } from "../tls/upstream-trust.ts";
import type { TokenRequest } from "./oauth2.ts";

/** What a token endpoint is reached by: the gate's own dialler, so that an upstream proxy is used here too. */
export interface TokenEndpointOptions {
  readonly trust: UpstreamTrust;
  /** Milliseconds until the response header. */
  readonly timeout: number;
  connect(endpoint: Endpoint): Promise<Socket>;
}

/**
 * Asks OAuth 2.0 token endpoints (RFC 6749 section 3.2). They are the user's own configuration, so the sandbox's
 * allow-list has no say, but the way there is the gate's.
 */
export function tokenRequester(options: TokenEndpointOptions): TokenRequest {
  const { trust, timeout } = options;
  return async (url, form) => {
    const { Agent, request } = await import("undici");
    const dispatcher = new Agent({
      allowH2: false,
      connect: ({ hostname, protocol, port }, callback) => {
        const open = async (): Promise<Socket> => {
          const secure = protocol === "https:";
          const host = parseHost(hostname);
          const socket = await options.connect({ host, port: Number(port || (secure ? 443 : 80)) });
          return secure ? trust.secure(socket, host, ["http/1.1"]) : socket;
        };
        callbackify(open)((error, socket) => {
          if (error) callback(error, null);
          else callback(null, socket);
        });
      },
    });
    try {
      const { statusCode, body } = await request(url, {
        method: "POST",
        headers: {
          "content-type": "application/x-www-form-urlencoded",
          accept: "application/json",
        },
        body: form.toString(),
        dispatcher,
        headersTimeout: timeout,
        bodyTimeout: timeout,
      });
      const answer: unknown = await body.json().catch(() => undefined);
      if (statusCode === 200 && typeof answer === "object" && answer !== null) return answer;
      throw new GateError(
        "ERR_NONO_CREDENTIAL_STORE",
        `The token endpoint answered ${statusCode}.`,
        {
          value: new URL(url).origin,
          remedy: "Check the client id, its secret and the scope.",
        },
      );
    } finally {
      await dispatcher.destroy();
    }
  };
}
