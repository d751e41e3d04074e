// The Claude Agent SDK, with Claude Code itself in a sandbox: its own spawn is replaced by ours, in one
// line. The key that it uses stays outside. A local server stands for the model.
//
//   PATH must have `claude` (npm install -g @anthropic-ai/claude-code).
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { query } from "@anthropic-ai/claude-agent-sdk";
import { startModelServer } from "@nono/example-model-server";
import { Sandbox } from "@nono/sdk";
import { inSandbox } from "@nono/sdk/child_process";

const workspace = mkdtempSync(path.join(tmpdir(), "nono-example-"));
const key = "sk-ant-the-real-key";
await using model = await startModelServer([
  { tool: "Bash", arguments: { command: "echo hello > hello.txt", description: "Greet" } },
  { tool: "Bash", arguments: { command: "cat /etc/shadow", description: "Look" } },
  { say: "I wrote hello.txt; the other file is not mine to read." },
]);
const host = `127.0.0.1:${model.port}`;

await using sandbox = new Sandbox({ audit: false })
  .use("claude-code", { workspace })
  .allowNetwork(host)
  .injectCredential({
    name: "ANTHROPIC_API_KEY",
    proxyTo: `http://${host}`,
    scheme: { type: "header", header: "x-api-key" },
    tokenFrom: { description: "this example", read: async () => Buffer.from(key) },
  })
  .setEnv({ ANTHROPIC_BASE_URL: `http://${host}` });
const { spawn } = inSandbox(sandbox);

const session = query({
  prompt: "Say hello in a file",
  options: {
    cwd: workspace,
    pathToClaudeCodeExecutable: execFileSync("which", ["claude"], { encoding: "utf8" }).trim(),
    spawnClaudeCodeProcess: ({ command, args, ...options }) =>
      spawn(command, args, { ...options, stdio: ["pipe", "pipe", "ignore"] }),
    allowedTools: ["Bash"],
    mcpServersDelivery: "initialize",
    settingSources: [],
  },
});
for await (const message of session) {
  if (message.type === "result")
    console.log(`model: ${"result" in message ? message.result : message.subtype}`);
}
const made = path.join(workspace, "hello.txt");
console.log(`hello.txt: ${existsSync(made) ? readFileSync(made, "utf8").trim() : "missing"}`);
const seen = model.requests.map(({ credential }) => credential);
console.log(`the model saw the real key: ${seen.length > 0 && seen.every((one) => one === key)}`);
const told = JSON.stringify(model.requests.map(({ body }) => body));
console.log(`the agent was refused /etc/shadow: ${/Permission denied|No such file/.test(told)}`);
rmSync(workspace, { recursive: true });
