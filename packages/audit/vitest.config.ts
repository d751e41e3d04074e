import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    globalSetup: "test/helpers/build-oracles.ts",
    testTimeout: 60_000,
    expect: { poll: { timeout: 20_000 } },
  },
});
