import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { schema } from "../scripts/schema.ts";
import { type Policy, PolicyError, Sandbox } from "../src/index.ts";
import { Host } from "../src/policy/host.ts";
import { presets } from "../src/policy/presets/index.ts";
import { resolvePolicy } from "../src/policy/resolve.ts";
import { nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

let directory: string;
beforeAll(() => {
  directory = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-policy-")));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function write(name: string, text: string): string {
  const file = path.join(directory, name);
  writeFileSync(file, text);
  return file;
}

function resolve(policy: Policy | string): ReturnType<typeof resolvePolicy> {
  return resolvePolicy(policy, { workspace: "/work" });
}

test("no preset requires a path that a machine may not have: what is not looked up there is optional", () => {
  vi.stubEnv("PATH", "");
  const bare = new Host("/workspace", () => "$SCRATCH");
  vi.unstubAllEnvs();
  const required = Object.values(presets).flatMap((preset) => {
    const { read = [], write = [], exec = [], unixSockets = [] } = preset.policy(bare);
    return [...read, ...write, ...exec, ...unixSockets].filter(
      (item) => item.startsWith("/") && !item.endsWith("?"),
    );
  });
  // Go's own default, where there is no go to ask.
  expect(new Set(required)).toEqual(new Set(["/usr/local/go"]));
});

test("the schema is the one that policy.ts describes", () => {
  const file = path.resolve(import.meta.dirname, "../src/policy/policy.schema.json");
  const committed: unknown = JSON.parse(readFileSync(file, "utf8"));
  expect(committed, "run pnpm --filter @nono/sdk schema").toEqual(schema());
});

describe("variables", () => {
  test("stand at the beginning of paths; relative paths are below the workspace", () => {
    const { read } = resolve({ read: ["$WORKSPACE/a", "$HOME/b", "c", ".", "/etc", "/odd$HOME"] });
    const expected = ["/work/a", `${homedir()}/b`, "/work/c", "/work", "/etc", "/odd$HOME"];
    expect(read).toEqual(expected);
  });

  test("what is marked ? is left out when it is missing", () => {
    const policy = {
      read: ["/etc/passwd?", "/no/such?"],
      exec: ["sh?", "no-such-program?", "other"],
    };
    expect(resolve(policy)).toMatchObject({ read: ["/etc/passwd"], exec: ["sh", "other"] });
  });

  test("stand anywhere in values, and $PATH is the one so far", () => {
    const base = { env: { set: { PATH: "/a:$PATH" } } };
    const file = write("path.json", JSON.stringify(base));
    const { env } = resolve({
      extends: file,
      env: { set: { PATH: "/b:$PATH", W: "in $WORKSPACE", D: "$$HOME" } },
    });
    expect(env.set).toMatchObject({ W: "in /work", D: "$HOME" });
    expect(env.set["PATH"]).toMatch(/^\/b:\/a:/);
  });

  test("there are no others", () => {
    expect(() => resolve({ read: ["$HOEM/x"] })).toThrow("there is no variable $HOEM");
  });
});

describe("extends", () => {
  test("adds lists up, and lets the later of single values count", () => {
    const base = write(
      "base.jsonc",
      '{ "read": ["/a"], "limits": { "processes": 1 }, "rollback": true }',
    );
    const own = { extends: base, read: ["/b", "/a"], limits: { openFiles: 2 }, rollback: false };
    expect(resolve(own)).toMatchObject({
      read: ["/a", "/b"],
      limits: { processes: 1, openFiles: 2 },
      rollback: false,
    });
  });

  test("is relative to the file that says it", () => {
    write("lib.json", '{ "read": ["/lib"] }');
    const file = write("own.json", '{ "extends": "./lib.json" }');
    expect(resolve(file).read).toEqual(["/lib"]);
  });

  test("adds networks up, and replaces a credential of the same name", () => {
    const host = write(
      "net.json",
      JSON.stringify({
        network: { allow: ["a.test"] },
        credentials: [{ name: "T", proxyTo: "a.test" }],
      }),
    );
    const own = resolve({
      extends: host,
      network: { allow: ["b.test"], deny: ["c.test"] },
      credentials: [{ name: "T", proxyTo: "b.test", from: { env: "X" } }],
    });
    expect(own.network).toEqual({ allow: ["a.test", "b.test"], deny: ["c.test"] });
    expect(own.credentials).toEqual([{ name: "T", proxyTo: "b.test", from: { env: "X" } }]);
    expect(resolve({ extends: host, network: "blocked" }).network).toBe("blocked");
  });

  test("must not go in a circle", () => {
    const a = write("a.json", '{ "extends": "./b.json" }');
    write("b.json", '{ "extends": "./a.json" }');
    expect(() => resolve(a)).toThrow("extends itself");
  });
});

describe("what is wrong is named with its place", () => {
  test.for([
    ['{ "raed": [] }', 1, 3, 'a policy has no property "raed"', "Did you mean read?"],
    ['{ "allowDegraded": ["exce"] }', 1, 21, 'can\'t be "exce"', "Did you mean exec?"],
    ['{ "allowDegraded": ["tcp"] }', 1, 21, 'can\'t be "tcp"', "Give one of fs-read,"],
    ['{\n  "env": { "set": { "A": 1 } }\n}', 2, 21, "env.set.A must be string", ""],
    ['{ "limits": { "memory": "1G" } }', 1, 15, "limits.memory must be number", ""],
    ['{ "credentials": [{ "name": "A" }] }', 1, 19, "required property 'proxyTo'", ""],
    ['{ "network": { "allow": "a" } }', 1, 16, "network.allow must be array", ""],
    ['{ "read": [ }', 1, 13, "value expected", ""],
    ["", 1, 1, "", ""],
    ['{ "extends": "nod" }', undefined, undefined, "there is no preset nod", "Presets are node"],
  ] as const)("%s", ([text, line, column, message, remedy]) => {
    const file = write("wrong.jsonc", text);
    const attempt = (): unknown => new Sandbox().use(file);
    expect(attempt).toThrow(PolicyError);
    expect(attempt).toThrow(message);
    try {
      attempt();
    } catch (error) {
      expect(error).toMatchObject({ code: "ERR_NONO_INVALID_CAPABILITIES" });
      const { place, remedy: advice } = error as PolicyError;
      expect(place).toEqual({ source: file, ...(line && { line, column }) });
      expect(advice).toContain(remedy);
    }
  });

  test("comments and trailing commas are welcome", () => {
    const file = write("fine.jsonc", '// a policy\n{ "read": ["/a",], /* more */ }\n');
    expect(resolve(file).read).toEqual(["/a"]);
  });
});

test("a sandbox is what its policies say, and its scratch directory ends with it", async () => {
  const sandbox = new Sandbox({ audit: false }).use({ extends: "shell", write: [directory] });
  const { stdout } = await sandbox.run([
    "sh",
    "-c",
    "echo $TMPDIR; touch $TMPDIR/made && ls $TMPDIR",
  ]);
  const [scratch = "", made] = stdout.split("\n");
  expect(made).toBe("made");
  await sandbox.close();
  expect(() => realpathSync(scratch)).toThrow("ENOENT");
});

test("a policy file in the workspace can't be changed by the run that it is for", async () => {
  const workspace = mkdtempSync(path.join(directory, "workspace-"));
  const file = path.join(workspace, "nono.jsonc");
  writeFileSync(file, '{ "extends": "shell", "write": ["$WORKSPACE"] }');
  await using sandbox = new Sandbox({ audit: false }).use(file, { workspace });
  const wider = `echo '{ "network": "open" }' > nono.jsonc; echo fine > other; cat other`;
  const { stdout, violatedPolicy } = await sandbox.run(["sh", "-c", wider]);
  expect({ stdout, violatedPolicy }).toEqual({ stdout: "fine\n", violatedPolicy: true });
  expect(readFileSync(file, "utf8")).toContain('"extends"');
});

test("the scratch directory is no part of what is rolled back", async () => {
  await using sandbox = new Sandbox({ audit: false }).use({
    extends: "shell",
    write: [directory],
    rollback: true,
  });
  await sandbox.run(["sh", "-c", `echo x > $TMPDIR/temporary; echo x > ${directory}/work`]);
  const changed: string[] = [];
  for await (const change of sandbox.changes()) changed.push(change.path);
  expect(changed).toEqual([expect.stringContaining("work")]);
  await sandbox.rollback();
});

describe("nono policy", () => {
  test("check says yes, or where not", () => {
    const good = write("good.json", '{ "extends": "node" }');
    expect(nono(["policy", "check", good])).toMatchObject({ status: 0, stderr: "" });
    const bad = write("bad.json", '{ "reed": [] }');
    const { status, stderr } = nono(["policy", "check", bad]);
    expect(status).toBe(125);
    expect(stderr).toContain(`${bad}:1:3`);
    const asJson = nono(["policy", "check", bad, "--json"]).stdout;
    expect(JSON.parse(asJson)).toMatchObject({ error: { details: { line: 1, column: 3 } } });
  });

  test("print, list and schema", () => {
    const file = write("printed.json", '{ "read": ["$WORKSPACE"] }');
    const printed = nono(["policy", "print", file, "--cwd", "/work"]).stdout;
    expect(JSON.parse(printed)).toMatchObject({ read: ["/work"], network: "blocked" });
    // What is printed is a policy, and means the same.
    const marked = write("marked.json", JSON.stringify({ read: [write("name?", "x") + "?"] }));
    const again = write("again.json", nono(["policy", "print", marked]).stdout);
    const twice = nono(["policy", "print", again, "--json"]).stdout;
    expect(JSON.parse(twice)).toMatchObject({ read: [expect.stringMatching(/\/name\?\?$/)] });
    expect(nono(["policy", "list"]).stdout).toContain("claude-code");
    expect(JSON.parse(nono(["policy", "list", "--json"]).stdout)).toContainEqual(
      expect.objectContaining({ name: "git" }),
    );
    expect(JSON.parse(nono(["policy", "schema"]).stdout)).toMatchObject({ type: "object" });
  });
});
