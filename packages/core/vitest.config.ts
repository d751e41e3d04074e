import { defineConfig } from "vitest/config";

// A test that hangs ends; one on a machine that is busy with other things does not.
export default defineConfig({ test: { testTimeout: 120_000, hookTimeout: 120_000 } });
