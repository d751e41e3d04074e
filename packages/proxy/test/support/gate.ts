import tls from "node:tls";
import { type Gate, type GateOptions, createGate } from "../../src/index.ts";
import { connectThrough } from "./client.ts";
import { closeUpstreams, loopback, upstreamAuthority } from "./upstream.ts";

/** The value that must not be seen. It has a character for every way of escaping. */
export const real = 'real-secret/with+odd=characters&more"-0123456789';

const gates: Gate[] = [];

/** Ends every gate and server of the test file. */
export async function closeAll(): Promise<void> {
  await Promise.all(gates.splice(0).map((gate) => gate.close()));
  await closeUpstreams();
}

/** A gate that allows good.test and other.test at a port of loopback, listening as an explicit proxy. */
export async function openGate(port: number, more: Partial<GateOptions> = {}): Promise<Gate> {
  const gate = createGate({
    allow: [`good.test:${port}`, `other.test:${port}`, `127.0.0.1:${port}`],
    resolver: loopback,
    tls: { ca: [upstreamAuthority.certificate] },
    ...more,
  });
  gates.push(gate);
  await gate.listen();
  return gate;
}

type Credential = NonNullable<GateOptions["credentials"]>[number];

/** A credential for good.test. */
export function token(port: number, more: Partial<Credential> = {}): Credential {
  return {
    name: "API_TOKEN",
    proxyTo: `good.test:${port}`,
    source: { description: "a test value", read: async () => Buffer.from(real) },
    ...more,
  };
}

/** A TLS connection to good.test through the gate, terminated by it. */
export async function secureThrough(gate: Gate, port: number): Promise<tls.TLSSocket> {
  const socket = await connectThrough(gate, `good.test:${port}`);
  const secure = tls.connect({ socket, servername: "good.test", ca: gate.caCertificate });
  secure.on("error", () => undefined);
  return secure;
}

/** Says `text` on a connection of its own and returns all that comes back until it is closed, or until `enough`. */
export async function say(
  gate: Gate,
  port: number,
  text: string | Buffer,
  enough: (answer: string) => boolean = () => false,
): Promise<string> {
  const secure = await secureThrough(gate, port);
  secure.write(text);
  let answer = "";
  await new Promise<void>((resolve) => {
    secure.on("data", (chunk: Buffer) => {
      answer += chunk.toString("latin1");
      if (enough(answer)) resolve();
    });
    secure.once("close", () => resolve());
    secure.once("end", () => resolve());
  });
  secure.destroy();
  return answer;
}
