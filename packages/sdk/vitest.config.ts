import { defineConfig } from "vitest/config";

// Real programs, on machines that may be busy with other things: these end only what hangs.
export default defineConfig({ test: { testTimeout: 300_000, hookTimeout: 300_000 } });
