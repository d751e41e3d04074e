import { support } from "@nono/core";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterAll, expect, test } from "vitest";
import { closeUpstreams, httpUpstream } from "./support/upstream.ts";

afterAll(closeUpstreams);

const hasCurl = spawnSync("/usr/bin/curl", ["--version"]).status === 0;
if (!hasCurl) console.log("SKIPPED: a gate in a worker thread: curl is not installed");

test.skipIf(!hasCurl)("a sandbox and its gate work in a worker thread as they are", async () => {
  const seen: (string | undefined)[] = [];
  const port = await httpUpstream((request, response) => {
    seen.push(request.headers.authorization);
    response.end(`you are ${request.headers.authorization}`);
  });
  const tiers = support().tiers.flatMap(({ name, available }) => (available ? [name] : []));
  const workerData = { tiers, port };
  const worker = new Worker(new URL("support/worker.ts", import.meta.url), { workerData });
  const [answers] = (await once(worker, "message")) as [string[]];
  expect(answers).toEqual(tiers.map(() => `you are Bearer ${"*".repeat(40)}`));
  expect(seen).toEqual(tiers.map(() => `Bearer ${"s".repeat(40)}`));
  await worker.terminate();
});
