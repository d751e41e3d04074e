// A tool of the Vercel AI SDK that runs in a sandbox: what the model asks for is run, and what it may do
// is not the model's to say. A local server stands for the model.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { startModelServer } from "@nono/example-model-server";
import { Sandbox } from "@nono/sdk";
import { generateText, stepCountIs, tool } from "ai";
import { z } from "zod";

const workspace = mkdtempSync(path.join(tmpdir(), "nono-example-"));
writeFileSync(path.join(workspace, "notes.txt"), "buy milk\n");
await using model = await startModelServer([
  { tool: "shell", arguments: { command: "cat notes.txt" } },
  { tool: "shell", arguments: { command: "cat /etc/shadow" } },
  { say: "The notes say: buy milk." },
]);

await using sandbox = new Sandbox({ audit: false })
  .use("shell", { workspace })
  .allowRead(workspace);

const shell = tool({
  description: "Runs a shell command in the workspace",
  inputSchema: z.object({ command: z.string() }),
  execute: async ({ command }) => {
    const { exitCode, stdout, stderr } = await sandbox.run(["sh", "-c", command], {
      cwd: workspace,
      timeout: 10_000,
    });
    console.log(`${command} → ${exitCode} ${(stdout + stderr).trim()}`);
    return { exitCode, stdout, stderr };
  },
});

const provider = createOpenAICompatible({
  name: "local",
  baseURL: `http://127.0.0.1:${model.port}/v1`,
  apiKey: "none",
});
const { text } = await generateText({
  model: provider("model"),
  prompt: "What do my notes say?",
  tools: { shell },
  stopWhen: stepCountIs(5),
});
console.log(`model: ${text}`);
rmSync(workspace, { recursive: true });
