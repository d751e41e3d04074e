import { defineConfig } from "vitest/config";

// Real programs, on machines that may be busy with other things.
export default defineConfig({ test: { testTimeout: 60_000, hookTimeout: 60_000 } });
