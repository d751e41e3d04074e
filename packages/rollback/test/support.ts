import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach } from "vitest";
import type { CommandIo } from "../src/cli.ts";

const scratches: string[] = [];

/** A project and a store that go with the test. */
export async function scratch(): Promise<{ project: string; store: string }> {
  const root = await mkdtemp(path.join(tmpdir(), "nono-rollback-"));
  scratches.push(root);
  const project = path.join(root, "project");
  await mkdir(path.join(project, "src"), { recursive: true });
  await writeFile(path.join(project, "src/a.txt"), "one\ntwo\nthree\n");
  await writeFile(path.join(project, "notes"), "untracked");
  return { project, store: path.join(root, "state") };
}

afterEach(async () => {
  await Promise.all(scratches.splice(0).map((root) => rm(root, { recursive: true })));
});

/** What a command writes. */
export function capture(isTTY = false): CommandIo & { text(): string } {
  let text = "";
  const stream = { write: (chunk: string) => (text += chunk), isTTY };
  return { stdout: stream, stderr: stream, text: () => text };
}
