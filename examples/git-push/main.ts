// `git push` with a token that git never has: it finds a stand-in in its environment at most, and the
// gate puts the real one on the wire. A local server stands for GitHub.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { Sandbox } from "@nono/sdk";
import { startGitServer } from "./git-server.ts";

const root = mkdtempSync(path.join(tmpdir(), "nono-example-"));
const workspace = path.join(root, "workspace");
const token = "the-real-token";
const git = (...args: string[]): string => execFileSync("git", args, { encoding: "utf8" });

git("init", "--quiet", "--bare", path.join(root, "remote", "project.git"));
git("init", "--quiet", "--initial-branch=main", workspace);
const { port, server, seen } = await startGitServer(path.join(root, "remote"), token);
const host = `127.0.0.1:${port}`;

await using sandbox = new Sandbox({ audit: { dir: path.join(root, "audit") } })
  .use("git", { workspace })
  .allowExec("env")
  .allowWrite(workspace)
  .allowNetwork(host)
  .injectCredential({
    name: "GIT_TOKEN",
    proxyTo: `http://${host}`,
    scheme: { type: "basic", username: "x-access-token" },
    tokenFrom: { description: "this example", read: async () => Buffer.from(token) },
  });

writeFileSync(path.join(workspace, "work.txt"), "done\n");
const who = ["-c", "user.name=Agent", "-c", "user.email=agent@example.test"];
for (const args of [
  ["add", "--all"],
  [...who, "commit", "--quiet", "--message=The agent's work"],
  ["push", `http://${host}/project.git`, "main"],
]) {
  const { exitCode, stderr } = await sandbox.run(["git", ...args], { cwd: workspace });
  console.log(
    `git ${args
      .filter((word) => !word.includes("user.") && word !== "-c")
      .join(" ")
      .replace(host, "HOST")} → ${exitCode}`,
  );
  if (exitCode !== 0) console.log(stderr);
}
const { stdout } = await sandbox.run(["env"]);
const arrived = git(
  "--git-dir",
  path.join(root, "remote", "project.git"),
  "log",
  "--format=%s",
  "main",
);
console.log(`on the server: ${arrived.trim()}`);
console.log(`the server saw the real token: ${seen.includes(`x-access-token:${token}`)}`);
console.log(`the agent's environment has it: ${stdout.includes(token)}`);
server.close();
await sandbox.close();
rmSync(root, { recursive: true });
process.exitCode = arrived.includes("The agent's work") && !stdout.includes(token) ? 0 : 1;
