// A tool of LangChain.js that runs in a sandbox. A local server stands for the model.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { startModelServer } from "@nono/example-model-server";
import { Sandbox } from "@nono/sdk";
import { createAgent } from "langchain";
import { z } from "zod";

const workspace = mkdtempSync(path.join(tmpdir(), "nono-example-"));
writeFileSync(path.join(workspace, "numbers.txt"), "3\n1\n2\n");
await using model = await startModelServer([
  { tool: "shell", arguments: { command: "sort numbers.txt | head -n 1" } },
  { tool: "shell", arguments: { command: "env | grep -c TOKEN" } },
  { say: "The smallest is 1." },
]);

await using sandbox = new Sandbox({ audit: false })
  .use("shell", { workspace })
  .allowRead(workspace);

const shell = tool(
  async ({ command }) => {
    const { exitCode, stdout, stderr } = await sandbox.run(["sh", "-c", command], {
      cwd: workspace,
      timeout: 10_000,
    });
    console.log(`${command} → ${exitCode} ${(stdout + stderr).trim()}`);
    return JSON.stringify({ exitCode, stdout, stderr });
  },
  {
    name: "shell",
    description: "Runs a shell command in the workspace",
    schema: z.object({ command: z.string() }),
  },
);

const agent = createAgent({
  model: new ChatOpenAI({
    model: "model",
    apiKey: "none",
    configuration: { baseURL: `http://127.0.0.1:${model.port}/v1` },
  }),
  tools: [shell],
});
const { messages } = await agent.invoke({ messages: "Which is the smallest number?" });
console.log(`model: ${messages.at(-1)?.text}`);
rmSync(workspace, { recursive: true });
