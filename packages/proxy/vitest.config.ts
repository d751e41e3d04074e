import { defineConfig } from "vitest/config";

// Real servers and clients on a machine that may be busy: deadlines are there to end what hangs, not to measure.
export default defineConfig({
  test: { testTimeout: 30_000, hookTimeout: 30_000, expect: { poll: { timeout: 20_000 } } },
});
