import { request } from "node:https";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import type { Gate } from "../../src/index.ts";

/** What a client got. */
export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly trailers: NodeJS.Dict<string>;
  readonly body: string;
}

/** Opens a tunnel through the gate's explicit proxy. */
export async function connectThrough(gate: Gate, authority: string): Promise<net.Socket> {
  const proxy = new URL(gate.env()["HTTPS_PROXY"] ?? "");
  const pair = Buffer.from(`${proxy.username}:${proxy.password}`).toString("base64");
  const socket = net.connect(Number(proxy.port), proxy.hostname);
  socket.on("error", () => undefined);
  socket.write(
    `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: Basic ${pair}\r\n\r\n`,
  );
  const head = await new Promise<string>((resolve) => {
    socket.once("data", (chunk: Buffer) => {
      socket.pause();
      const end = chunk.indexOf("\r\n\r\n") + 4;
      if (chunk.length > end) socket.unshift(chunk.subarray(end));
      resolve(String(chunk));
    });
    socket.once("close", () => resolve(""));
  });
  if (!head.startsWith("HTTP/1.1 200")) throw new Error(head);
  return socket;
}

/** An HTTP/2 connection through the gate, trusting only the gate's authority. */
export async function h2Session(
  gate: Gate,
  port: number,
  host = "good.test",
): Promise<http2.ClientHttp2Session> {
  const socket = await connectThrough(gate, `${host}:${port}`);
  const options = { socket, servername: host, ca: gate.caCertificate, ALPNProtocols: ["h2"] };
  const createConnection = (): tls.TLSSocket => tls.connect(options);
  return http2.connect(`https://${host}:${port}`, { createConnection });
}

export interface AskOptions extends http.RequestOptions {
  readonly headers?: http.OutgoingHttpHeaders;
  readonly body?: string | Buffer;
  readonly serverName?: string;
}

/** One HTTPS request through the gate, trusting only the gate's authority. */
export async function ask(gate: Gate, url: string, options: AskOptions = {}): Promise<Answer> {
  const { hostname, port, pathname, search } = new URL(url);
  const socket = await connectThrough(gate, `${hostname}:${port || 443}`);
  const secure = tls.connect({
    socket,
    servername: options.serverName ?? hostname,
    ca: gate.caCertificate,
    ALPNProtocols: ["http/1.1"],
  });
  const path = options.path ?? pathname + search;
  const { body, ...rest } = options;
  return new Promise((resolve, reject) => {
    secure.once("error", reject);
    const outgoing = request(
      {
        host: hostname,
        port: port || 443,
        createConnection: () => secure,
        ...rest,
        path,
        headers: { host: new URL(url).host, ...rest.headers },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.once("error", reject);
        response.once("end", () => {
          socket.destroy();
          const { statusCode: status = 0, headers, trailers } = response;
          resolve({ status, headers, trailers, body: Buffer.concat(chunks).toString() });
        });
      },
    );
    outgoing.once("error", reject);
    outgoing.end(body);
  });
}
