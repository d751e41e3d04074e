// What the parts depend on, by their imports: who only verifies should not have to trust more than that.
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";

const src = path.resolve(import.meta.dirname, "../src");

/** The modules that `entry` loads before anything is called, and what they import besides each other. */
function graph(entry: string): { files: Set<string>; others: Set<string> } {
  const files = new Set([path.join(src, entry)]);
  const others = new Set<string>();
  for (const file of files) {
    const text = readFileSync(file, "utf8");
    for (const [statement, , name = ""] of text.matchAll(
      /^(import|export)\b[^;]*?from "([^"]+)";/gm,
    )) {
      if (/^(import|export) type\b/.test(statement)) continue;
      if (name.startsWith(".")) files.add(path.resolve(path.dirname(file), name));
      else others.add(name);
    }
  }
  return { files, others };
}

test.each(["index.ts", "export.ts", "cli.ts"])("%s needs nothing but Node", (entry) => {
  const { files, others } = graph(entry);
  expect(files.size).toBeGreaterThan(1);
  expect([...others].filter((name) => !name.startsWith("node:"))).toEqual([]);
});

test("the package has no dependencies, only optional peers", () => {
  const manifest = JSON.parse(readFileSync(path.join(src, "../package.json"), "utf8")) as {
    dependencies?: object;
    optionalDependencies?: object;
    peerDependencies: object;
    peerDependenciesMeta: Record<string, { optional?: boolean }>;
  };
  expect([manifest.dependencies, manifest.optionalDependencies]).toEqual([undefined, undefined]);
  for (const name of Object.keys(manifest.peerDependencies))
    expect(manifest.peerDependenciesMeta[name], name).toEqual({ optional: true });
});

test("verification reaches no network and starts no program", () => {
  const { files, others } = graph("verify.ts");
  const loaded = [...others].filter((name) => name.startsWith("node:"));
  expect(loaded).toContain("node:crypto");
  for (const name of "child_process cluster dgram dns http http2 https inspector net tls".split(
    " ",
  ))
    expect(loaded).not.toContain(`node:${name}`);
  const text = [...files].map((file) => readFileSync(file, "utf8")).join("\n");
  expect(text).not.toMatch(/\b(fetch|WebSocket|import|require|getBuiltinModule)\(/);
});
