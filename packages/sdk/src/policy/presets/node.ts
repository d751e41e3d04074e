import path from "node:path";
import type { Host } from "../host.ts";
import type { Preset } from "./preset.ts";

/** Node with npm, npx and their relatives. What they fetch needs `npm-registry` besides. */
export const node: Preset = {
  summary: "Node, npm, npx, pnpm, yarn",
  policy: (host) => ({
    extends: "scratch",
    // npm runs package scripts by sh.
    exec: ["node?", "npm?", "npx?", "pnpm?", "yarn?", "corepack?", "sh", "env?"],
    read: installation(host),
    env: {
      allow: ["NODE_ENV", "FORCE_COLOR", "NO_COLOR"],
      set: {
        // The user's own cache would let one sandbox change what another one installs.
        npm_config_cache: "$SCRATCH/npm",
        npm_config_update_notifier: "false",
        COREPACK_HOME: "$SCRATCH/corepack",
        XDG_CACHE_HOME: "$SCRATCH/cache",
      },
    },
  }),
};

/** Where Node and its programs are, when a version manager or a project has put them there. */
function installation(host: Host): string[] {
  const programs = ["node", "npm", "pnpm", "yarn"].map((name) => host.program(name));
  return programs.flatMap((program) => {
    if (program === undefined) return [];
    const modules = program.lastIndexOf("/node_modules/");
    const directory = modules > 0 ? program.slice(0, modules) : path.dirname(path.dirname(program));
    // The base profile has /usr/lib and /usr/share.
    return /^\/(usr(\/.*)?)?$/.test(directory) ? [] : [directory];
  });
}
