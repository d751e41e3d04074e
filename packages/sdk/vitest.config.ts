import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

// Real programs, which are waited for as much as they compute, on machines that may be busy with other
// things: the timeouts end only what hangs.
export default defineConfig({
  test: {
    maxWorkers: availableParallelism() + 1,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
