import { defineConfig, type ViteUserConfig } from "vitest/config";

const config: ViteUserConfig = defineConfig({
  test: { maxWorkers: "100%", testTimeout: 300_000 },
});
export default config;
