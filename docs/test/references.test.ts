// What the documents refer to exists, and what exists is documented.
import { execFileSync } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";
import { documents, root } from "./support.ts";

function text(name: string): string {
  return readFileSync(path.join(root, name), "utf8");
}

/** As GitHub makes them of headings. */
function anchors(document: string): Set<string> {
  const headings = text(document).matchAll(/^#+ (.*)$/gm);
  return new Set(
    [...headings].map(([, title = ""]) =>
      title
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    ),
  );
}

test.for(documents)("the links of %s lead somewhere", (document) => {
  const links = [...text(document).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = ""]) => link);
  for (const link of links) {
    if (/^(https?|mailto):/.test(link)) continue;
    const [file = "", anchor] = link.split("#");
    const target = file === "" ? document : path.join(path.dirname(document), file);
    expect(existsSync(path.join(root, target)), `${document}: ${link}`).toBe(true);
    if (anchor !== undefined)
      expect([...anchors(target)], `${document}: ${link}`).toContain(anchor);
  }
});

function codes(name: string): string[] {
  return text(name).match(/\bERR_NONO_[A-Z0-9_]*[A-Z0-9]\b(?!_)/g) ?? [];
}

test("each error code of the sources is in the troubleshooting, and no other", () => {
  const sources = globSync(["packages/*/src/**/*.ts", "crates/*/src/**/*.rs"], { cwd: root });
  const thrown = new Set(sources.flatMap(codes));
  const explained = new Set(codes("docs/troubleshooting.md"));
  expect([...thrown].filter((code) => !explained.has(code)).toSorted(), "not explained").toEqual(
    [],
  );
  expect([...explained].filter((code) => !thrown.has(code)).toSorted(), "not in use").toEqual([]);
});

test("each property of a policy, and each preset, is in the reference", () => {
  const reference = text("docs/policy.md");
  const schema = JSON.parse(text("packages/sdk/src/policy/policy.schema.json")) as {
    properties: object;
    definitions: { Limits: { properties: object } };
  };
  const listed = execFileSync(process.execPath, [
    `${root}/packages/sdk/bin/nono.js`,
    "policy",
    "list",
    "--json",
  ]);
  const presets = (JSON.parse(String(listed)) as { name: string }[]).map(({ name }) => name);
  const properties = [schema.properties, schema.definitions.Limits.properties].flatMap(Object.keys);
  for (const name of [...properties, ...presets]) expect(reference).toContain(`\`${name}\``);
});

test("each command is in the guide of the command", () => {
  const help = execFileSync(process.execPath, [`${root}/packages/sdk/bin/nono.js`, "--help"], {
    encoding: "utf8",
  });
  const names = [...help.matchAll(/^ {2}(\w+) {2}/gm)].map(([, name]) => name ?? "");
  expect(names.length).toBeGreaterThan(10);
  const guide = text("docs/guides/cli.md");
  for (const name of names) expect(guide).toMatch(new RegExp(`\\b${name}\\b`));
});
