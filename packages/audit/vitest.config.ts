import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { globalSetup: "test/helpers/build-oracles.ts", testTimeout: 30_000 },
});
