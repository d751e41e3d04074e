// A sandbox and its gate in a worker thread: says what a request with a credential was answered, in each tier.
import { createSandbox } from "@nono/core";
import { parentPort, workerData } from "node:worker_threads";
import { createGate } from "../../src/index.ts";
import { loopback } from "./upstream.ts";

const { tiers, port } = workerData as { tiers: ("namespaces" | "flat")[]; port: number };
const answers: string[] = [];
for (const tier of tiers) {
  const gate = createGate({
    allow: [`good.test:${port}`, `127.0.0.1:${port}`],
    resolver: loopback,
    credentials: [
      {
        name: "API_TOKEN",
        proxyTo: `http://good.test:${port}`,
        source: { description: "the test's own", read: async () => Buffer.from("s".repeat(40)) },
      },
    ],
  });
  const sandbox = await createSandbox(
    { network: "gate", gatePorts: [port], exec: ["/usr/bin/curl"] },
    { tier },
  );
  await gate.serve(sandbox.takeListeners());
  const url = `http://good.test:${port}/`;
  const { stdout, stderr } = await sandbox.run(["/usr/bin/curl", "-sS", url]);
  answers.push(stdout + stderr);
  await sandbox.close();
  await gate.close();
}
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker has no origin
parentPort?.postMessage(answers);
