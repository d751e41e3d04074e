import { buildOracles } from "./oracles.ts";

export default function setup(): void {
  for (const { what, reason } of buildOracles())
    console.log(`SKIPPED: audit tests that need ${what}: ${reason}`);
}

if (import.meta.main) setup();
