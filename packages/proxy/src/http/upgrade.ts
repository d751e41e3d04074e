import { createHash } from "node:crypto";
import type http from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { GateError } from "../errors.ts";
import type { GateEvent } from "../event.ts";
import type { Dialer } from "../net/dial.ts";
import { nodeHttp } from "../net/node-http.ts";
import type { UpstreamTrust } from "../tls/upstream-trust.ts";
import { type ForwardContext, requestEvent } from "./forward.ts";
import { type FlatHeaders, endToEnd, withField, withoutFields } from "./headers.ts";
import { asGateError, refuseOnSocket } from "./refusal.ts";
import { type Destination, originForm } from "./request-target.ts";
import { bodyWriterFor } from "./response-body.ts";
import { relayFrames } from "./websocket-relay.ts";

/** What an upgrade needs beside what a request needs: a connection of its own. */
export interface UpgradeContext extends ForwardContext {
  readonly dialer: Dialer;
  readonly trust: UpstreamTrust;
  /** Milliseconds until the server's response header. */
  readonly responseTimeout: number;
  /** Milliseconds for which a WebSocket may be silent. */
  readonly tunnelTimeout: number;
}

/**
 * Whether a request asks for a protocol that the gate can look into. Anything else (`h2c` above all: an unseen
 * connection within the seen one) is served as if it had not been asked for, as RFC 9110 section 7.8 allows.
 */
export function isWebSocketRequest({ method, headers }: http.IncomingMessage): boolean {
  return method === "GET" && headers.upgrade?.trim().toLowerCase() === "websocket";
}

/** Forwards a WebSocket handshake, and joins the two connections when the server agrees (RFC 6455). */
export async function forwardUpgrade(
  context: UpgradeContext,
  destination: Destination,
  request: http.IncomingMessage,
  client: Socket,
  head: Buffer,
): Promise<void> {
  const { endpoint, secure } = destination;
  const event = requestEvent(request, destination, secure ? "wss" : "ws");
  client.on("error", () => client.destroy());
  try {
    const path = originForm(request, destination);
    const accept = expectedAccept(request);
    const rule = context.rules.check(endpoint, "GET", path, request.rawHeaders);
    if (rule !== undefined) event.rule = { id: rule };
    // Compressed frames could not be searched.
    const hidden = context.broker.isEmpty ? [] : ["sec-websocket-extensions"];
    const headers = endToEnd(request.rawHeaders, ["host", ...hidden]);
    const draft = { method: "GET", path, headers, body: undefined };
    const injection = await context.broker.prepare(destination, draft);
    const ref = await context.recorder.intent(event);
    const tcp = await context.dialer.connect(endpoint, secure ? endpoint.host.text : undefined);
    client.once("close", () => tcp.destroy());
    if (client.destroyed) return void tcp.destroy();
    const upstream = secure ? await context.trust.secure(tcp, endpoint.host, ["http/1.1"]) : tcp;
    const started = process.hrtime.bigint();
    const { response, rest } = await handshake(
      upstream,
      destination,
      injection,
      context.responseTimeout,
    );
    const status = response.statusCode ?? 0;
    client.once("close", () => {
      const durationUs = Number((process.hrtime.bigint() - started) / 1_000n);
      const result: GateEvent = {
        type: "http.response",
        phase: "result",
        decision: "allow",
        object: { status, host: endpoint.host.text },
        outcome: { status, bytes: tcp.bytesRead, durationUs },
      };
      context.recorder.note(ref === undefined ? result : { ...result, ref });
    });
    const scrubbed = injection.scrubTexts(response.rawHeaders);
    if (status !== 101) {
      return answerInstead(request, client, response, scrubbed, injection.scrubber());
    }
    if (response.headers["sec-websocket-accept"] !== accept) throw noWebSocket();
    // Bytes of both directions pass this socket.
    client.setTimeout(context.tunnelTimeout, () => client.destroy());
    client.write(switchingProtocols(scrubbed));
    if (rest.length > 0) upstream.unshift(rest);
    if (head.length > 0) client.unshift(head);
    if (context.broker.isEmpty) {
      client.pipe(upstream).pipe(client);
    } else {
      const messages = await context.broker.messages(destination);
      relayFrames(client, upstream, messages, (error) => {
        context.recorder.deny(event, asGateError(error));
      });
      relayFrames(
        upstream,
        client,
        () => context.broker.masking(),
        () => undefined,
      );
    }
    upstream.once("close", () => client.destroy());
  } catch (failure) {
    const error = asGateError(failure);
    context.recorder.deny(event, error);
    refuseOnSocket(client, error);
  }
}

/**
 * What a server that understands WebSocket answers (RFC 6455 section 4.2.2): any other 101 would make a tunnel to a server
 * that goes on reading requests.
 *
 * @throws GateError `ERR_NONO_PROTOCOL` when the handshake is none
 */
function expectedAccept({ headers }: http.IncomingMessage): string {
  const key = headers["sec-websocket-key"];
  const hasBody =
    headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) !== 0;
  if (key === undefined || hasBody) {
    throw new GateError(
      "ERR_NONO_PROTOCOL",
      "The WebSocket handshake has no key, or it has a body.",
    );
  }
  return createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
}

function noWebSocket(): GateError {
  return new GateError(
    "ERR_NONO_UPSTREAM",
    "The server switched to something else than WebSocket.",
  );
}

function handshake(
  upstream: Duplex,
  { endpoint, secure }: Destination,
  { path, headers }: { path: string; headers: FlatHeaders },
  timeout: number,
): Promise<{ response: http.IncomingMessage; rest: Buffer }> {
  const { host, port } = endpoint;
  const authority = port === (secure ? 443 : 80) ? host.text : `${host.text}:${port}`;
  const upgraded = withField(withField(headers, "connection", "Upgrade"), "upgrade", "websocket");
  return new Promise((resolve, reject) => {
    const outgoing = nodeHttp.request({
      createConnection: () => upstream,
      path,
      headers: ["host", authority, ...withoutFields(upgraded, ["host"])],
    });
    const timer = setTimeout(() => {
      outgoing.destroy();
      reject(new GateError("ERR_NONO_UPSTREAM_TIMEOUT", "The server did not answer in time."));
    }, timeout);
    outgoing.once("upgrade", (response, _socket, rest) => resolve({ response, rest }));
    outgoing.once("response", (response) => resolve({ response, rest: Buffer.alloc(0) }));
    outgoing.once("error", reject);
    outgoing.once("close", () => clearTimeout(timer));
    outgoing.end();
  });
}

/** The server did not agree: what it says instead is an answer like any other, and scrubbed like any other. */
function answerInstead(
  request: http.IncomingMessage,
  client: Socket,
  response: http.IncomingMessage,
  headers: FlatHeaders,
  masker: Parameters<typeof bodyWriterFor>[2],
): void {
  const reply = new nodeHttp.ServerResponse(request);
  reply.shouldKeepAlive = false;
  reply.sendDate = false;
  reply.assignSocket(client);
  reply.once("finish", () => client.end());
  const writer = bodyWriterFor(reply, headers, masker);
  reply.writeHead(response.statusCode ?? 502, endToEnd(writer.headers));
  response.on("data", (chunk: Buffer) => {
    if (writer.write(chunk)) return;
    response.pause();
    writer.onceDrained(() => response.resume());
  });
  response.once("end", () => {
    writer.end({}, (error) => {
      if (error) client.destroy();
    });
  });
  response.once("error", () => writer.destroy());
}

function switchingProtocols(headers: FlatHeaders): string {
  const lines = ["HTTP/1.1 101 Switching Protocols"];
  for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}
