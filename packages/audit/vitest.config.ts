import process from "node:process";
import { configDefaults, defineConfig } from "vitest/config";

/** Bytes in, bytes out: what root has run (scripts/as-users.ts) would be the same for anybody. */
const ofNoUser = [
  "conformance",
  "encode",
  "export",
  "imports",
  "merkle",
  "mutation",
  "note",
  "oracles",
  "schema",
  "vectors",
].map((name) => `test/${name}.test.ts`);
const isSecondUser = process.env["NONO_TESTED_AS_ROOT"] !== undefined;
if (isSecondUser)
  console.log("SKIPPED: audit tests of formats and verdicts: already run as another user");

export default defineConfig({
  test: {
    exclude: [...configDefaults.exclude, ...(isSecondUser ? ofNoUser : [])],
    globalSetup: "test/helpers/build-oracles.ts",
    // They wait for other programs and disks as much as they compute.
    maxWorkers: "100%",
    // A test that hangs ends; one on a machine that is busy with other things does not.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 120_000 } },
  },
});
