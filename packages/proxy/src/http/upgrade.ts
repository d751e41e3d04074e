import http from "node:http";
import type { Duplex } from "node:stream";
import type { Dialer } from "../net/dial.ts";
import type { UpstreamTrust } from "../tls/upstream-trust.ts";
import { type ForwardContext, requestEvent } from "./forward.ts";
import { type FlatHeaders, endToEnd, withField, withoutFields } from "./headers.ts";
import { asGateError, refuseOnSocket } from "./refusal.ts";
import { type Destination, originForm } from "./request-target.ts";
import { relayFrames } from "./websocket-relay.ts";

/** What an upgrade needs beside what a request needs: a connection of its own. */
export interface UpgradeContext extends ForwardContext {
  readonly dialer: Dialer;
  readonly trust: UpstreamTrust;
}

/** Forwards a WebSocket (or another upgrade) and joins the two connections when the server agrees. */
export async function forwardUpgrade(
  context: UpgradeContext,
  destination: Destination,
  request: http.IncomingMessage,
  client: Duplex,
  head: Buffer,
): Promise<void> {
  const { endpoint, secure } = destination;
  const event = requestEvent(request, destination, secure ? "wss" : "ws");
  client.on("error", () => client.destroy());
  try {
    const path = originForm(request, destination);
    const rule = context.rules.check(endpoint, "GET", path);
    if (rule !== undefined) event.rule = { id: rule };
    const bound = context.broker.covers(destination);
    // Compressed frames could not be searched.
    const hidden = bound || !context.broker.isEmpty ? ["sec-websocket-extensions"] : [];
    const headers = endToEnd(request.rawHeaders, ["host", ...hidden]);
    const draft = { method: "GET", path, headers, body: undefined };
    const injection = await context.broker.prepare(destination, draft);
    await context.recorder.intent(event);
    const tcp = await context.dialer.connect(endpoint, secure ? endpoint.host.text : undefined);
    const upstream = secure ? await context.trust.secure(tcp, endpoint.host, ["http/1.1"]) : tcp;
    const protocol = request.headers.upgrade ?? "websocket";
    const { response, rest } = await handshake(upstream, destination, injection, protocol);
    const scrubbed = injection.scrubHeaders(response.rawHeaders);
    const lines = responseLines(response, scrubbed);
    client.write(lines);
    if (response.statusCode !== 101) {
      response.pipe(client);
      return;
    }
    if (rest.length > 0) upstream.unshift(rest);
    if (head.length > 0) client.unshift(head);
    if (context.broker.isEmpty || protocol.toLowerCase() !== "websocket") {
      client.pipe(upstream).pipe(client);
    } else {
      const { swap, values } = await context.broker.webSocket(destination);
      const phantoms = swap.messageReplacer(values, endpoint.host.text);
      relayFrames(client, upstream, phantoms, (error) => {
        context.recorder.deny(event, asGateError(error));
      });
      relayFrames(upstream, client, context.broker.masking(), () => undefined);
    }
    client.once("close", () => upstream.destroy());
    upstream.once("close", () => client.destroy());
  } catch (failure) {
    const error = asGateError(failure);
    context.recorder.deny(event, error);
    refuseOnSocket(client, error);
  }
}

function handshake(
  upstream: Duplex,
  { endpoint, secure }: Destination,
  { path, headers }: { path: string; headers: FlatHeaders },
  protocol: string,
): Promise<{ response: http.IncomingMessage; rest: Buffer }> {
  const { host, port } = endpoint;
  const authority = port === (secure ? 443 : 80) ? host.text : `${host.text}:${port}`;
  const upgraded = withField(withField(headers, "connection", "Upgrade"), "upgrade", protocol);
  return new Promise((resolve, reject) => {
    const outgoing = http.request({
      createConnection: () => upstream,
      path,
      headers: ["host", authority, ...withoutFields(upgraded, ["host"])],
    });
    outgoing.once("upgrade", (response, _socket, rest) => resolve({ response, rest }));
    outgoing.once("response", (response) => resolve({ response, rest: Buffer.alloc(0) }));
    outgoing.once("error", reject);
    outgoing.end();
  });
}

function responseLines(response: http.IncomingMessage, headers: FlatHeaders): string {
  const lines = [`HTTP/1.1 ${response.statusCode} ${response.statusMessage}`];
  const switched = response.statusCode === 101;
  const sent = switched
    ? headers
    : [...endToEnd(headers, ["content-length"]), "connection", "close"];
  for (let i = 0; i < sent.length; i += 2) lines.push(`${sent[i]}: ${sent[i + 1]}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}
