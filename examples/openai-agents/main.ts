// A tool of the OpenAI Agents SDK that runs in a sandbox. A local server stands for the model.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { startModelServer } from "@nono/example-model-server";
import { Sandbox } from "@nono/sdk";
import { Agent, run, setDefaultOpenAIClient, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";

const workspace = mkdtempSync(path.join(tmpdir(), "nono-example-"));
writeFileSync(path.join(workspace, "data.csv"), "a,1\nb,2\n");
await using model = await startModelServer([
  { tool: "shell", arguments: { command: "wc -l < data.csv" } },
  { tool: "shell", arguments: { command: "echo x > data.csv" } },
  { say: "There are two lines, and I may not change them." },
]);
setTracingDisabled(true);
setDefaultOpenAIClient(
  new OpenAI({ baseURL: `http://127.0.0.1:${model.port}/v1`, apiKey: "none" }),
);

await using sandbox = new Sandbox({ audit: false })
  .use("shell", { workspace })
  .allowRead(workspace);

const shell = tool({
  name: "shell",
  description: "Runs a shell command in the workspace",
  parameters: z.object({ command: z.string() }),
  execute: async ({ command }) => {
    const { exitCode, stdout, stderr } = await sandbox.run(["sh", "-c", command], {
      cwd: workspace,
      timeout: 10_000,
    });
    console.log(`${command} → ${exitCode} ${(stdout + stderr).trim()}`);
    return JSON.stringify({ exitCode, stdout, stderr });
  },
});

const agent = new Agent({ name: "Counter", instructions: "Count lines.", tools: [shell] });
const { finalOutput } = await run(agent, "How many lines has data.csv?");
console.log(`model: ${finalOutput}`);
rmSync(workspace, { recursive: true });
