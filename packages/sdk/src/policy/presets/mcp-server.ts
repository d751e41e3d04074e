import type { Preset } from "./preset.ts";

/** A server of the Model Context Protocol that talks by stdin and stdout: reads the workspace, no network. */
export const mcpServer: Preset = {
  summary: "an MCP server over stdio: may read $WORKSPACE, no network",
  policy: () => ({ extends: ["node", "python"], read: ["$WORKSPACE"] }),
};
