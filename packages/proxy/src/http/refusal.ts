import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Duplex } from "node:stream";
import { GateError } from "../errors.ts";

/** A request of either protocol; Node's compatibility layer gives both the same shape. */
export type GateRequest = IncomingMessage | Http2ServerRequest;
export type GateResponse = (ServerResponse | Http2ServerResponse) & NodeJS.WritableStream;

/** What the clients of undici and of Node say of a header or a target that would not be one on the wire. */
const unsendable: ReadonlySet<string> = new Set([
  "UND_ERR_INVALID_ARG",
  "UND_ERR_NOT_SUPPORTED",
  "ERR_INVALID_CHAR",
  "ERR_INVALID_HTTP_TOKEN",
  "ERR_HTTP2_HEADER_SINGLE_VALUE",
]);

/** Any failure as the error that the agent is told. */
export function asGateError(error: unknown): GateError {
  if (error instanceof GateError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT") {
    return new GateError("ERR_NONO_UPSTREAM_TIMEOUT", "The server did not answer in time.", {
      cause: error,
    });
  }
  if (code === "UND_ERR_HEADERS_OVERFLOW") {
    return new GateError("ERR_NONO_LIMIT", "The response's header is larger than the limit.", {
      cause: error,
    });
  }
  if (unsendable.has(code ?? "")) {
    return new GateError("ERR_NONO_PROTOCOL", `The request cannot be sent on: ${message}.`, {
      cause: error,
    });
  }
  return new GateError("ERR_NONO_UPSTREAM", `The server broke off: ${code ?? "no reason given"}.`, {
    cause: error,
  });
}

/** Answers a request with the refusal as JSON; an answer already begun is broken off instead. */
export function refuseRequest(response: GateResponse, error: GateError): void {
  if (response.destroyed) return;
  if (response.headersSent) {
    breakOff(response);
    return;
  }
  const body = `${JSON.stringify(error)}\n`;
  response.statusCode = error.status;
  response.setHeader("content-type", "application/json");
  response.setHeader("content-length", Buffer.byteLength(body));
  response.setHeader("x-nono-refused", error.code);
  if (error.status === 429) response.setHeader("retry-after", "1");
  if (error.status === 405)
    response.setHeader("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
  response.end(body);
}

/** Ends a response so that the client sees it is not whole. */
export function breakOff(response: GateResponse): void {
  if ("stream" in response && response.stream) response.stream.close(2); // INTERNAL_ERROR
  else response.destroy();
}

/** Milliseconds for which a refused client may still send. */
const lingering = 1_000;

/** The same on a socket that has not become an HTTP exchange. */
export function refuseOnSocket(socket: Duplex, error: GateError, headers: string[] = []): void {
  if (!socket.writable) return void socket.destroy();
  const body = `${JSON.stringify(error)}\n`;
  const lines = [
    `HTTP/1.1 ${error.status} Refused`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    `x-nono-refused: ${error.code}`,
    "connection: close",
    ...headers,
  ];
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`);
  // Closing at once would reset the connection under whatever the client is still sending, and the answer with it.
  const timer = setTimeout(() => socket.destroy(), lingering);
  socket.once("close", () => clearTimeout(timer));
}
