import { execFileSync } from "node:child_process";
import {
  chmodSync,
  constants,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { chmod, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { runRollbackCommand } from "../src/cli.ts";
import { checkpoint } from "../src/index.ts";
import { capture, scratch } from "./support.ts";

test("a patch is what git apply takes, and repeats what was undone", async () => {
  const { project, store } = await scratch();
  await writeFile(path.join(project, "script"), "#!/bin/sh\necho one\n", { mode: 0o644 });
  await writeFile(path.join(project, "gone"), "without a newline at the end");
  await using before = await checkpoint(project, { store });
  const states = ["src/a.txt", "script", "gone", "new.txt", "moved"];
  const look = async (): Promise<string[]> =>
    Promise.all(
      states.map(async (name) => {
        const file = path.join(project, name);
        const found = await stat(file).catch(() => undefined);
        return found === undefined
          ? "none"
          : `${found.mode & 0o777} ${await readFile(file, "utf8")}`;
      }),
    );
  await writeFile(path.join(project, "src/a.txt"), "one\n2\nthree\nfour");
  await writeFile(path.join(project, "new.txt"), "new\n");
  await chmod(path.join(project, "script"), 0o755);
  await rm(path.join(project, "gone"));
  await rename(path.join(project, "notes"), path.join(project, "moved"));
  const after = await look();
  const io = capture();
  expect(
    await runRollbackCommand(["diff", "-p", "--checkpoint", before.id, "--store", store], io),
  ).toBe(0);
  await before.rollback();
  expect(await look()).not.toEqual(after);
  execFileSync("git", ["apply", "--unidiff-zero", "-"], { cwd: project, input: io.text() });
  expect(await look()).toEqual(after);
});

test("a patch has every name, type and line as git reads it", async () => {
  const { project, store } = await scratch();
  const at = (name: string | Buffer): Buffer =>
    Buffer.concat([Buffer.from(`${project}/`), Buffer.from(name)]);
  const latin1 = Buffer.from("caf\xe9", "latin1");
  const odd = 'tab\t"quoted" back\\slash\nline \u{1b}[31m \u{202e} ';
  const made = { binary: "\0one", "binary too": "\0two", file: "text\n", [odd]: "one\n" };
  for (const [name, text] of Object.entries(made)) writeFileSync(at(name), text);
  writeFileSync(at(latin1), "one\n");
  writeFileSync(at("blank"), "one\n \n");
  writeFileSync(at("returns"), "a\rb\rc\nlast\r");
  symlinkSync("file", at("link"));
  symlinkSync("file", at("linked"));
  execFileSync("mkfifo", [at("pipe").toString()]);
  await using before = await checkpoint(project, { store });
  chmodSync(at("binary"), 0o755);
  renameSync(at("binary too"), at("a binary"));
  for (const name of ["file", "link"]) rmSync(at(name));
  symlinkSync("blank", at("file"));
  writeFileSync(at("link"), "no link\n");
  rmSync(at("linked"));
  symlinkSync("binary", at("linked"));
  rmSync(at("pipe"));
  for (const name of [odd, latin1]) writeFileSync(at(name), "one\ntwo\n");
  writeFileSync(at("blank"), "two\n \n");
  writeFileSync(at("returns"), "a\rb\rd\nlast\r\r");
  writeFileSync(at("ends in a space "), "");
  utimesSync(at("notes"), 1, 1);
  const after = seen(project);
  const io = capture();
  const argv = ["diff", "-p", "--checkpoint", before.id, "--store", store];
  expect(await runRollbackCommand(argv, io)).toBe(0);
  expect(io.text()).toMatch(/^# deleted FIFO pipe$/mu);
  expect(io.text()).toMatch(/^# notes with another time$/mu);
  for (const hidden of ["\u{1b}", "\u{202e}"]) expect(io.text()).not.toContain(hidden);
  await before.rollback();
  expect(seen(project)).not.toEqual(after);
  rmSync(at("pipe"));
  execFileSync("git", ["apply", "--whitespace=nowarn", "-"], { cwd: project, input: io.text() });
  expect(seen(project)).toEqual(after);
});

/** Each name in a directory, as bytes, with what is there. */
function seen(dir: string): string[] {
  const names = readdirSync(dir, { encoding: "buffer" }).toSorted((a, b) => a.compare(b));
  return names.map((name) => {
    const full = Buffer.concat([Buffer.from(`${dir}/`), name]);
    const { mode } = lstatSync(full);
    const kind = mode & constants.S_IFMT;
    const what =
      kind === constants.S_IFLNK
        ? readlinkSync(full)
        : kind === constants.S_IFREG
          ? readFileSync(full).toString("latin1")
          : "";
    return `${name.toString("latin1")} ${mode.toString(8)} ${what}`;
  });
}
