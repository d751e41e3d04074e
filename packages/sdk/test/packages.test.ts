// Every package as it is published: packed, looked at by publint and attw, installed into an empty project
// outside the repository, and used from ESM, CommonJS and TypeScript.
import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isSecondUser } from "./support/nono.ts";

const root = path.resolve(import.meta.dirname, "../../..");
const bin = path.join(root, "node_modules/.bin");
const layers = ["core", "proxy", "rollback", "audit", "sdk"] as const;

/** Bytes that a packed package may have at most: a third more than when this was written. */
const limits: Readonly<Record<string, number>> = {
  core: 90_000,
  proxy: 275_000,
  rollback: 50_000,
  audit: 260_000,
  sdk: 310_000,
};

// Nothing of this depends on the user; once is enough.
if (isSecondUser) console.log("SKIPPED: packages as published: already looked at as another user");

let directory: string;
const tarballs = new Map<string, string>();

beforeAll(() => {
  if (isSecondUser) return;
  directory = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-packages-")));
  mkdirSync(path.join(directory, "tarballs"));
  for (const layer of layers) {
    const where = path.join(root, "packages", layer);
    tarballs.set(layer, pack(where));
    const native = path.join(where, "npm/linux-x64-gnu");
    if (layer === "core" || layer === "rollback") tarballs.set(`${layer}-native`, pack(native));
  }
}, 120_000);
afterAll(() => directory && rmSync(directory, { recursive: true, force: true }));

function run(
  command: string,
  args: readonly string[],
  cwd: string,
  more: NodeJS.ProcessEnv = {},
): string {
  const env = {
    ...process.env,
    ...more,
    PATH: `${bin}:${process.env["PATH"]}`,
    npm_config_audit: "false",
  };
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, env, encoding: "utf8" });
  expect(status, `${command} ${args.join(" ")}\n${stdout}${stderr}`).toBe(0);
  return stdout;
}

function pack(where: string): string {
  const destination = path.join(directory, "tarballs");
  const before = new Set(readdirSync(destination));
  run("pnpm", ["pack", "--pack-destination", destination], where);
  const made = readdirSync(destination).find((name) => !before.has(name));
  return path.join(destination, made ?? "");
}

/** An empty project into which packages are installed. */
function project(
  name: string,
  packages: readonly string[],
  others: readonly string[] = [],
): string {
  const where = path.join(directory, name);
  mkdirSync(where);
  writeFileSync(path.join(where, "package.json"), '{ "private": true }');
  const files = packages.map((one) => tarballs.get(one) ?? "");
  run("npm", ["install", "--no-fund", "--prefer-offline", ...files, ...others], where);
  return where;
}

function manifestOf(where: string): object {
  return JSON.parse(readFileSync(path.join(where, "package.json"), "utf8")) as object;
}

function node(where: string, file: string, text: string): string {
  writeFileSync(path.join(where, file), text);
  return run(process.execPath, [file], where);
}

describe.skipIf(isSecondUser)("as published", () => {
  test.for(layers)("@nono/%s satisfies publint and attw, and is no larger than it was", (layer) => {
    const where = path.join(root, "packages", layer);
    const tarball = tarballs.get(layer) ?? "";
    run("publint", ["--strict", tarball], where);
    const options = ["--profile", "esm-only", "--exclude-entrypoints", "policy.schema.json"];
    run("attw", [tarball, ...options], where);
    const { size } = statSync(tarball);
    console.log(`size of @nono/${layer}: ${size} bytes packed`);
    expect(size).toBeLessThan(limits[layer] ?? 0);
  });

  test("the changesets say what is published: all packages, none of the examples", ({ skip }) => {
    // Changesets are counted from where main was left.
    const main = spawnSync("git", ["rev-parse", "--verify", "main"], { cwd: root });
    if (main.status !== 0) skip("this clone has no branch main");
    const told = run("changeset", ["status"], root);
    const bumped = [...told.matchAll(/^ {2}- (@nono\/\S+)/gm)].map(([, name]) => name);
    expect(bumped).toEqual(expect.arrayContaining(layers.map((layer) => `@nono/${layer}`)));
    expect(bumped.filter((name) => name?.includes("example"))).toEqual([]);
  });

  test("what was built for a platform becomes a package that its layer asks for", () => {
    const checkout = path.join(directory, "checkout");
    for (const [layer, addon] of [
      ["core", "nono"],
      ["rollback", "nono-snapshot"],
    ] as const) {
      const from = path.join(root, "packages", layer);
      const to = path.join(checkout, "packages", layer);
      mkdirSync(path.join(to, "artifacts"), { recursive: true });
      cpSync(path.join(from, "package.json"), path.join(to, "package.json"));
      symlinkSync(path.join(from, "node_modules"), path.join(to, "node_modules"));
      for (const platform of ["linux-x64-gnu", "linux-arm64-musl"]) {
        writeFileSync(path.join(to, "artifacts", `${addon}.${platform}.node`), platform);
      }
    }
    const inActions = { GITHUB_SERVER_URL: "https://git.test", GITHUB_REPOSITORY: "a/b" };
    run(
      process.execPath,
      [path.join(root, "scripts/native-packages.ts"), checkout],
      root,
      inActions,
    );
    const core = path.join(checkout, "packages/core");
    expect(manifestOf(core)).toMatchObject({
      optionalDependencies: {
        "@nono/core-linux-x64-gnu": "workspace:*",
        "@nono/core-linux-arm64-musl": expect.stringMatching(/^\d+\.\d+\.\d+/),
      },
    });
    expect(readdirSync(path.join(core, "npm")), "and no other").toEqual([
      "linux-arm64-musl",
      "linux-x64-gnu",
    ]);
    const native = path.join(core, "npm/linux-arm64-musl");
    expect(readFileSync(path.join(native, "nono.linux-arm64-musl.node"), "utf8")).toBe(
      "linux-arm64-musl",
    );
    expect(manifestOf(native)).toMatchObject({
      name: "@nono/core-linux-arm64-musl",
      os: ["linux"],
      cpu: ["arm64"],
      libc: ["musl"],
      publishConfig: { access: "public", provenance: true },
      repository: { url: "git+https://git.test/a/b.git" },
    });
    expect(manifestOf(core)).toMatchObject({
      repository: { type: "git", url: "git+https://git.test/a/b.git", directory: "packages/core" },
    });
  });

  test("workflows name actions by commit, and one job alone may do more than read", () => {
    for (const name of readdirSync(path.join(root, ".github/workflows"))) {
      const workflow = readFileSync(path.join(root, ".github/workflows", name), "utf8");
      const used = [...workflow.matchAll(/uses: (.*)/g)].map(([, action]) => action);
      expect(used.length).toBeGreaterThan(0);
      for (const action of used) expect(action).toMatch(/^[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
      expect(workflow).toContain("\npermissions:\n  contents: read\n");
      const writing = workflow.slice(0, workflow.indexOf("\n  publish:\n"));
      expect(writing).not.toMatch(/: write|secrets\./);
    }
  });

  test("core alone pulls no other layer, and enforces", () => {
    const where = project("core-only", ["core", "core-native"]);
    expect(readdirSync(path.join(where, "node_modules/@nono")).toSorted()).toEqual([
      "core",
      "core-linux-x64-gnu",
    ]);
    expect(
      readdirSync(path.join(where, "node_modules")).filter((name) => !name.startsWith(".")),
    ).toEqual(["@nono"]);
    const script = `import { createSandbox } from "@nono/core";
      await using sandbox = await createSandbox({ exec: ["echo"] });
      console.log((await sandbox.run(["echo", "it"])).stdout.trim());`;
    expect(node(where, "main.mjs", script)).toBe("it\n");
  });

  test.for([
    ["proxy", ["proxy"], "createGate"],
    ["audit", ["audit"], "openAuditLog"],
    ["rollback", ["rollback", "rollback-native"], "checkpoint"],
  ] as const)("%s alone pulls no other layer", ([layer, packages, name]) => {
    const where = project(`${layer}-only`, packages);
    const installed = readdirSync(path.join(where, "node_modules/@nono"));
    expect(installed.filter((one) => !one.startsWith(layer))).toEqual([]);
    const script = `import { ${name} } from "@nono/${layer}"; console.log(typeof ${name});`;
    expect(node(where, "main.mjs", script)).toBe("function\n");
    const required = `console.log(typeof require("@nono/${layer}").${name});`;
    expect(node(where, "main.cjs", required)).toBe("function\n");
  });

  test("all of it works from ESM, CommonJS, TypeScript and the command line", () => {
    const everything = [...tarballs.keys()];
    const where = project("everything", everything, ["@types/node@24"]);
    const use = `async () => {
      const sandbox = new Sandbox({ audit: false }).allowExec("echo");
      console.log((await sandbox.run(["echo", "it"])).stdout.trim());
      await sandbox.close();
    }`;
    const esm = `import { Sandbox } from "@nono/sdk";\nawait (${use})();`;
    expect(node(where, "main.mjs", esm)).toBe("it\n");
    const cjs = `const { Sandbox } = require("@nono/sdk");\nvoid (${use})();`;
    expect(node(where, "main.cjs", cjs)).toBe("it\n");
    const bare = "node_modules/.bin/nono";
    expect(run(bare, ["run", "--no-audit", "--allow-read", ".", "--", "echo", "it"], where)).toBe(
      "it\n",
    );
    expect(run(bare, ["policy", "check", "node"], where)).toBe("node: valid\n");

    cpSync(path.join(import.meta.dirname, "support/consumer.ts"), path.join(where, "consumer.ts"));
    cpSync(path.join(import.meta.dirname, "support/consumer.ts"), path.join(where, "consumer.cts"));
    for (const resolution of ["nodenext", "bundler"]) {
      const compilerOptions = {
        strict: true,
        noEmit: true,
        target: "es2024",
        lib: ["es2024", "esnext.disposable", "dom"],
        types: ["node"],
        module: resolution === "bundler" ? "preserve" : "nodenext",
        moduleResolution: resolution,
        skipLibCheck: false,
      };
      const config = { compilerOptions, include: ["consumer.ts"] };
      writeFileSync(path.join(where, "tsconfig.json"), JSON.stringify(config));
      run("tsc", ["-p", "tsconfig.json"], where);
    }
    const manifest = readFileSync(path.join(where, "node_modules/@nono/sdk/package.json"), "utf8");
    expect(manifest).not.toContain("workspace:");
  });

  test("the sdk loads a layer only when it is used", () => {
    const where = path.join(directory, "everything");
    const script = `import { registerHooks } from "node:module";
      const loaded = new Set();
      registerHooks({ resolve: (name, context, next) => {
        const found = next(name, context);
        for (const [, layer] of found.url.matchAll(/@nono\\/(\\w+)\\//g)) loaded.add(layer);
        if (/node_modules\\/(undici|ajv|jsonc-parser|@napi-rs|@opentelemetry)/.test(found.url)) loaded.add(found.url);
        return found;
      } });
      const { Sandbox } = await import("@nono/sdk");
      const sandbox = new Sandbox({ audit: false }).allowExec("echo");
      await sandbox.run(["echo"]);
      await sandbox.close();
      console.log([...loaded].sort().join(" "));`;
    expect(node(where, "layers.mjs", script)).toBe("core sdk\n");
  });
});
