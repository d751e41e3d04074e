// What a gate loads before there is anything to do: its start is a part of each command's.
import { execFileSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";

test("a gate starts without the undici within Node, and without the package", () => {
  const source = path.resolve(import.meta.dirname, "../src/index.ts");
  const script = `import { createGate } from ${JSON.stringify(source)};
    import { createRequire } from "node:module";
    await using gate = createGate({ allow: ["example.org"] });
    await gate.listen();
    const loaded = [...process.moduleLoadList, ...Object.keys(createRequire(import.meta.url).cache)];
    console.log(loaded.length > 100, loaded.filter((name) => name.includes("undici")).length);`;
  const args = ["--input-type=module", "-e", script];
  expect(execFileSync(process.execPath, args, { encoding: "utf8" })).toBe("true 0\n");
});
