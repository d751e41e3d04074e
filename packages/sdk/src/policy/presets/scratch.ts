import type { Preset } from "./preset.ts";

/** A place for temporary files, in every tier, that ends with the sandbox. */
export const scratch: Preset = {
  summary: "a temporary directory of the sandbox's own",
  policy: () => ({ write: ["$SCRATCH"], env: { set: { TMPDIR: "$SCRATCH" } } }),
};
