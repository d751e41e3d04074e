import net from "node:net";
import tls from "node:tls";
import { GateError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "./host.ts";

const maxResponseHead = 16_384;

/** A corporate HTTP proxy through which the gate reaches everything (RFC 9110 section 9.3.6). */
export class UpstreamProxy {
  readonly #url: URL;
  readonly #ca: readonly string[];

  /** @throws GateError `ERR_NONO_INVALID_OPTION` unless it is an `http:` or `https:` URL */
  constructor(url: string, ca: readonly string[]) {
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
      throw new GateError("ERR_NONO_INVALID_OPTION", "upstreamProxy is not an http(s) URL.", {
        remedy: "Write http://[user:password@]host:port.",
      });
    }
    this.#url = new URL(url);
    this.#ca = ca;
  }

  /** @throws GateError `ERR_NONO_UPSTREAM`, `ERR_NONO_UPSTREAM_TIMEOUT` */
  connect(endpoint: Endpoint, timeout: number): Promise<net.Socket> {
    const socket = this.#open();
    return new Promise((resolve, reject) => {
      const fail = (error: GateError): void => {
        clearTimeout(timer);
        socket.destroy();
        reject(error);
      };
      const timer = setTimeout(() => {
        fail(new GateError("ERR_NONO_UPSTREAM_TIMEOUT", "The upstream proxy did not answer."));
      }, timeout);
      const onReadable = (): void => {
        const chunk = socket.read() as Buffer | null;
        if (chunk === null) return;
        head = Buffer.concat([head, chunk]);
        const end = head.indexOf("\r\n\r\n");
        if (end < 0 && head.length > maxResponseHead) return fail(refused("an endless header"));
        if (end < 0) return;
        const status = /^HTTP\/1\.[01] (\d{3})/.exec(head.toString("latin1", 0, end))?.[1];
        if (status?.startsWith("2") !== true) return fail(refused(`status ${status ?? "unknown"}`));
        clearTimeout(timer);
        socket.off("readable", onReadable).off("end", onEnd);
        if (head.length > end + 4) socket.unshift(head.subarray(end + 4));
        resolve(socket);
      };
      let head: Buffer = Buffer.alloc(0);
      socket.on("readable", onReadable);
      socket.on("error", (error: NodeJS.ErrnoException) =>
        fail(refused(error.code ?? "error", error)),
      );
      const onEnd = (): void => fail(refused("the connection was closed"));
      socket.once("end", onEnd);
      const where = formatEndpoint(endpoint);
      socket.write(`CONNECT ${where} HTTP/1.1\r\nHost: ${where}\r\n${this.#authorization()}\r\n`);
    });
  }

  #open(): net.Socket {
    const { protocol, hostname, port } = this.#url;
    const host = hostname.replace(/^\[|\]$/g, "");
    if (protocol === "http:") {
      return net.connect({ host, port: Number(port || 80), noDelay: true, allowHalfOpen: true });
    }
    const servername = net.isIP(host) === 0 ? { servername: host } : {};
    return tls.connect({ host, port: Number(port || 443), ca: [...this.#ca], ...servername });
  }

  #authorization(): string {
    const { username, password } = this.#url;
    if (username === "" && password === "") return "";
    const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    return `Proxy-Authorization: Basic ${Buffer.from(pair).toString("base64")}\r\n`;
  }
}

function refused(why: string, cause?: unknown): GateError {
  return new GateError("ERR_NONO_UPSTREAM", `The upstream proxy refused the connection: ${why}.`, {
    cause,
  });
}
