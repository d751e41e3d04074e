import path from "node:path";
import type { Host } from "../host.ts";
import { installationOf, isShim } from "./installation.ts";
import type { Preset } from "./preset.ts";

/** npm and its relatives. */
const managers = ["npm", "npx", "pnpm", "yarn", "corepack"];

/** Node with npm, npx and their relatives. What they fetch needs `npm-registry` besides. */
export const node: Preset = {
  summary: "Node, npm, npx, pnpm, yarn",
  policy: (host) => {
    const chosen = chosenNode(host);
    const bin = chosen && path.dirname(chosen);
    return {
      extends: "scratch",
      // npm runs package scripts by sh.
      exec: [
        "node?",
        ...managers.map((name) => `${name}?`),
        ...(chosen ? [chosen, ...managers.map((name) => `${bin}/${name}?`)] : []),
        "sh",
        "env?",
      ],
      read: ["node", ...managers]
        .map((name) => host.program(name))
        .concat(chosen)
        .flatMap((file) => (file === undefined ? [] : installationOf(host, file))),
      env: {
        allow: ["NODE_ENV", "FORCE_COLOR", "NO_COLOR"],
        set: {
          ...(bin && { PATH: `${bin}:$PATH` }),
          // The user's own cache would let one sandbox change what another one installs.
          npm_config_cache: "$SCRATCH/npm",
          npm_config_update_notifier: "false",
          COREPACK_HOME: "$SCRATCH/corepack",
          XDG_CACHE_HOME: "$SCRATCH/cache",
        },
      },
    };
  },
};

/** The Node that a version manager chooses (Volta, asdf, mise), when what `PATH` names is not Node itself. */
function chosenNode(host: Host): string | undefined {
  const found = host.program("node");
  if (found === undefined || !isShim(found, "node")) return undefined;
  return host.askPath("node", ["-p", "process.execPath"]);
}
