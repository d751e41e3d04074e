// A server that answers like a model, by a script: the examples need neither network nor key. It speaks
// the three protocols in use (OpenAI's chat completions and responses, Anthropic's messages), streamed
// or not. A turn is chosen by how many tool results the conversation has so far.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import * as anthropic from "./anthropic.ts";
import * as chat from "./chat.ts";
import * as responses from "./responses.ts";

/** What the model does in one turn. */
export type Turn =
  | { readonly say: string }
  | { readonly tool: string; readonly arguments: Readonly<Record<string, unknown>> };

/** What one of the protocols makes of a request and a turn. */
export interface Protocol {
  /** Whether the request offers tools: agents ask on the side for titles and the like. */
  offersTools(request: Json): boolean;
  /** How many tool results the conversation has. */
  toolResults(request: Json): number;
  /** The answer as one object. */
  answer(request: Json, turn: Turn): unknown;
  /** The answer as server-sent events: name and data. */
  events(request: Json, turn: Turn): readonly (readonly [name: string, data: unknown])[];
}

/** A request's body; what is in it is looked at where it is used. */
export type Json = Readonly<Record<string, any>>; // eslint-disable-line typescript/no-explicit-any

/** What arrived at the server. */
export interface ModelRequest {
  readonly path: string;
  readonly body: Json;
  /** The credential that came along, however it was presented. */
  readonly credential: string | undefined;
}

/** A running server. */
export interface ModelServer extends AsyncDisposable {
  readonly port: number;
  readonly requests: readonly ModelRequest[];
}

/** Starts it on a free port of 127.0.0.1. */
export async function startModelServer(turns: readonly Turn[]): Promise<ModelServer> {
  const requests: ModelRequest[] = [];
  const server = createServer((request, response) => {
    void answer(request, response, turns, requests).catch((error: unknown) => {
      response.writeHead(500).end(String(error));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    port,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

const protocols: Readonly<Record<string, Protocol>> = {
  "/chat/completions": chat,
  "/responses": responses,
  "/messages": anthropic,
};

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  turns: readonly Turn[],
  requests: ModelRequest[],
): Promise<void> {
  const path = (request.url ?? "").split("?")[0] ?? "";
  const body = JSON.parse((await text(request)) || "{}") as Json;
  const { authorization, "x-api-key": apiKey } = request.headers;
  requests.push({
    path,
    body,
    credential: authorization?.replace("Bearer ", "") ?? String(apiKey),
  });
  const protocol = Object.entries(protocols).find(([end]) => path.endsWith(end))?.[1];
  if (request.method !== "POST" || protocol === undefined) {
    response
      .writeHead(404, { "content-type": "application/json" })
      .end('{"error":{"message":"not here"}}');
    return;
  }
  const turn = protocol.offersTools(body) ? turns[protocol.toolResults(body)] : turns.at(-1);
  const chosen = turn ?? { say: "Done." };
  if (body["stream"] !== true) {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(protocol.answer(body, chosen)));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const [name, data] of protocol.events(body, chosen)) {
    if (name !== "") response.write(`event: ${name}\n`);
    response.write(`data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
  }
  response.end();
}
