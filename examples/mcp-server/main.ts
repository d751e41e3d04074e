// An MCP server that was told to serve the whole file system, and is wrapped by one line of .mcp.json: in
// front of its command stands `nono run -p mcp-server --`. What it may read is then a fact. (The second
// policy says where this repository keeps its packages.)
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

interface McpConfiguration {
  readonly mcpServers: Readonly<Record<string, { command: string; args: string[] }>>;
}

const here = import.meta.dirname;
const configuration = JSON.parse(
  readFileSync(path.join(here, ".mcp.json"), "utf8"),
) as McpConfiguration;
const { files } = configuration.mcpServers;
if (files === undefined) throw new Error(".mcp.json has no server named files");

// What an editor or an agent does with such a file. Both programs are in node_modules/.bin here.
const search = `${path.join(here, "node_modules/.bin")}:${process.env["PATH"]}`;
const env = { ...process.env, PATH: search } as Record<string, string>;
const client = new Client({ name: "example", version: "1.0.0" });
await client.connect(new StdioClientTransport({ ...files, cwd: here, env }));

const outside = mkdtempSync(path.join(tmpdir(), "nono-example-"));
writeFileSync(path.join(outside, "secret.txt"), "what it is not for\n");
console.log(`tools: ${(await client.listTools()).tools.length}`);
for (const name of [
  path.join(here, "notes.txt"),
  path.join(outside, "secret.txt"),
  "/etc/shadow",
]) {
  const result = await client.callTool({ name: "read_text_file", arguments: { path: name } });
  const [part] = result.content as { text: string }[];
  console.log(`${path.basename(name)}: ${result.isError === true ? "refused" : part?.text.trim()}`);
}
await client.close();
rmSync(outside, { recursive: true });
