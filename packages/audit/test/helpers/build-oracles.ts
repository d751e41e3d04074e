import { buildOracles, programs } from "./oracles.ts";

export default function setup(): void {
  const reason = buildOracles();
  if (reason !== undefined)
    console.log(`SKIPPED: audit oracles (${programs.join(", ")}): ${reason}`);
}
