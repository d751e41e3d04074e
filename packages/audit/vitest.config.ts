import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    globalSetup: "test/helpers/build-oracles.ts",
    // A test that hangs ends; one on a machine that is busy with other things does not.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 120_000 } },
  },
});
