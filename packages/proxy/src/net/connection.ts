import type { Socket } from "node:net";
import { GateError } from "../errors.ts";
import type { Recorder } from "../event.ts";
import { asGateError, refuseOnSocket } from "../http/refusal.ts";
import type { HttpEngine } from "../http/engine.ts";
import type { AllowList } from "../policy/allow-list.ts";
import type { ClientHello } from "../tls/client-hello.ts";
import { HelloWatch } from "../tls/hello-watch.ts";
import type { Dialer } from "./dial.ts";
import { type Endpoint, formatEndpoint, parseHost } from "./host.ts";
import { type Opening, sniff } from "./sniff.ts";
import { Downlink, joinTunnel } from "./tunnel.ts";

/** Milliseconds a client may take to say its first word where it must speak first. */
const firstBytesTimeout = 10_000;
/** On other ports the server may be the one who speaks first (SSH, SMTP, databases). */
const serverFirstAfter = 100;

export interface ConnectionContext {
  readonly allowList: AllowList;
  readonly recorder: Recorder;
  readonly dialer: Dialer;
  readonly engine: HttpEngine;
  /** Milliseconds for which a tunnel may be silent. */
  readonly tunnelTimeout: number;
  /** Whether what is said to this endpoint must be seen. */
  inspects(endpoint: Endpoint): boolean;
}

/** @throws GateError `ERR_NONO_HOST_DENIED` */
export function checkEndpoint(allowList: AllowList, endpoint: Endpoint): void {
  const verdict = allowList.decide(endpoint);
  if (verdict.allowed) return;
  const where = formatEndpoint(endpoint);
  throw new GateError("ERR_NONO_HOST_DENIED", verdict.reason, {
    value: where,
    ...(verdict.rule === undefined ? {} : { rule: verdict.rule }),
    remedy: `To allow it, add ${JSON.stringify(where)} to the network allow-list (\`nono why\` tells more).`,
  });
}

/**
 * Serves one connection to a known destination: finds out what it speaks, and tunnels, terminates or refuses it.
 * `accept` is called before the first byte may go to the client (explicit proxy).
 */
export async function serveConnection(
  context: ConnectionContext,
  client: Socket,
  endpoint: Endpoint,
  accept?: () => void,
): Promise<void> {
  let accepted = accept === undefined;
  const acceptOnce = (): void => {
    if (!accepted) accept?.();
    accepted = true;
  };
  let sni: string | undefined;
  const refuse = (failure: unknown): void => {
    const error = asGateError(failure);
    const object = { host: endpoint.host.text, port: endpoint.port, transport: "tcp" as const };
    const seen = sni === undefined ? {} : { sni };
    context.recorder.deny({ type: "net.connect", object: { ...object, ...seen } }, error);
    if (!accepted) refuseOnSocket(client, error);
    else client.resetAndDestroy();
  };
  client.on("error", () => client.destroy());
  try {
    checkEndpoint(context.allowList, endpoint);
    const inspected = context.inspects(endpoint);
    const watch = new HelloWatch((hello) => {
      sni = hello.serverName;
      checkHello(hello, endpoint, inspected);
    });
    // An opaque tunnel is dialled before the client is told, so that a failure can still be explained.
    if (accept && !inspected && endpoint.port !== 80) {
      return await tunnel(context, client, endpoint, watch, acceptOnce, refuse);
    }
    acceptOnce();
    const opening = await open(client, endpoint, inspected);
    if (opening.kind === "closed") return void client.destroy();
    if (opening.kind === "tls") {
      sni = opening.hello.serverName;
      checkHello(opening.hello, endpoint, inspected);
      if (inspected) return context.engine.terminate(client, { endpoint, secure: true });
    }
    if (opening.kind === "http" && endpoint.port !== 443) {
      return context.engine.plain(client, { endpoint, secure: false });
    }
    if (opening.kind !== "tls" && (inspected || endpoint.port === 443 || endpoint.port === 80)) {
      throw wrongProtocol(endpoint, inspected);
    }
    await tunnel(context, client, endpoint, watch, acceptOnce, refuse, sni);
  } catch (error) {
    refuse(error);
  }
}

async function open(client: Socket, { port }: Endpoint, inspected: boolean): Promise<Opening> {
  const clientFirst = inspected || port === 443 || port === 80;
  return sniff(client, clientFirst ? firstBytesTimeout : serverFirstAfter);
}

async function tunnel(
  context: ConnectionContext,
  client: Socket,
  endpoint: Endpoint,
  watch: HelloWatch,
  accept: () => void,
  refuse: (error: unknown) => void,
  sni?: string,
): Promise<void> {
  const { dialer } = context;
  const downlink = dialer.readsInto ? new Downlink(client) : undefined;
  const upstream = await dialer.connect(endpoint, sni, downlink?.onread);
  if (client.destroyed) return void upstream.destroy();
  // Bytes of both directions pass this socket.
  client.setTimeout(context.tunnelTimeout, () => client.destroy());
  accept();
  if (downlink) downlink.attach(upstream);
  else upstream.pipe(client, { end: false });
  joinTunnel(client, upstream, watch, refuse, endpoint.port === 443);
}

/**
 * @throws GateError `ERR_NONO_NAME_MISMATCH`, `ERR_NONO_ECH_REFUSED`
 */
function checkHello(hello: ClientHello, endpoint: Endpoint, terminated: boolean): void {
  const { serverName } = hello;
  const { host } = endpoint;
  // Without a server name the server chooses by address; for a name that could be another site there.
  const same =
    serverName === undefined
      ? host.address !== undefined || terminated
      : parseHost(serverName).text === host.text;
  if (!same) {
    const said = serverName === undefined ? "no server name" : JSON.stringify(serverName);
    throw new GateError(
      "ERR_NONO_NAME_MISMATCH",
      `The TLS handshake for ${host.text} carries ${said}.`,
      { value: serverName ?? "", remedy: "Connect to the host whose name is sent." },
    );
  }
  // In a terminated connection the extension is ignored and everything inside is seen anyway.
  if (hello.encrypted && !terminated) {
    throw new GateError(
      "ERR_NONO_ECH_REFUSED",
      `The TLS handshake for ${host.text} offers Encrypted Client Hello, which could hide another name.`,
      { value: host.text, remedy: "Switch ECH off in the client." },
    );
  }
}

function wrongProtocol(endpoint: Endpoint, inspected: boolean): GateError {
  const expected = inspected ? "TLS or HTTP/1.1" : endpoint.port === 443 ? "TLS" : "HTTP/1.1";
  return new GateError(
    "ERR_NONO_PROTOCOL",
    `The client does not speak ${expected} to ${formatEndpoint(endpoint)}.`,
    { value: formatEndpoint(endpoint) },
  );
}
