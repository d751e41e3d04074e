// The gate alone, in front of a program that is told of it by its environment (a container would be the same).
// A local server stands for the API, so that the example needs no network.
import { execFile } from "node:child_process";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";
import { createGate } from "@nono/proxy";

const token = "the-real-token-that-stays-here";
const api = http.createServer((request, response) => {
  const known = request.headers.authorization === `Bearer ${token}`;
  response.end(`known=${known} you sent: ${request.headers.authorization}\n`);
});
await new Promise<void>((resolve) => {
  api.listen(0, "127.0.0.1", resolve);
});
const { port } = api.address() as AddressInfo;

const gate = createGate({
  // The name, and the loopback address behind it: a private address is dialled only when it is named too.
  allow: [`api.example:${port}`, `127.0.0.1:${port}`],
  resolver: { resolve: async () => ["127.0.0.1"] },
  credentials: [
    {
      name: "API_TOKEN",
      proxyTo: `http://api.example:${port}`,
      source: { description: "this example", read: async () => Buffer.from(token) },
    },
  ],
});
await gate.listen();
const env = { PATH: process.env["PATH"] ?? "", ...gate.env() };

const ask = async (url: string): Promise<string> => {
  const { stdout } = await promisify(execFile)("curl", ["-sS", url], { env });
  return stdout.trim();
};
console.log(`the agent's API_TOKEN: ${gate.env()["API_TOKEN"]?.slice(0, 5)}…`);
console.log(await ask(`http://api.example:${port}/`));
console.log(await ask(`http://elsewhere.example:${port}/`));
console.log(
  `violations: ${gate.violations.map(({ code, value }) => `${code} ${value}`).join(", ")}`,
);
await gate.close();
api.close();
