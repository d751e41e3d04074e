import process from "node:process";
import { configDefaults, defineConfig } from "vitest/config";

/** A gate and its server in one process, over loopback: what root has run would be the same for anybody. */
const ofNoUser = [
  "bodies",
  "cost",
  "events",
  "fuzz",
  "http",
  "http2",
  "http2-bodies",
  "limits",
  "memory",
  "policy",
  "schemes",
  "semantics",
  "tunnel",
  "upstream",
  "wire",
  "escape/encodings",
  "escape/injection",
  "escape/reflection",
  "escape/rules",
  "escape/smuggling",
  "escape/tunnel",
].map((name) => `test/${name}.test.ts`);
const isSecondUser = process.env["NONO_TESTED_AS_ROOT"] !== undefined;
if (isSecondUser)
  console.log("SKIPPED: proxy tests of protocols over loopback: already run as another user");

// Real servers and clients on a machine that may be busy: deadlines are there to end what hangs, not to measure.
export default defineConfig({
  test: {
    exclude: [...configDefaults.exclude, ...(isSecondUser ? ofNoUser : [])],
    // They wait for other programs as much as they compute.
    maxWorkers: "100%",
    testTimeout: 30_000,
    hookTimeout: 30_000,
    expect: { poll: { timeout: 20_000 } },
  },
});
