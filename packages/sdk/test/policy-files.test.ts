// Policy files that others have made, or could change: none widens what was meant, and none keeps nono waiting.
import { spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync, truncateSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { PathError, Sandbox } from "@nono/sdk";
import { resolvePolicy } from "../src/policy/resolve.ts";
import { main, nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";
import { useWorkspace } from "./support/workspace.ts";

useOwnState();
const workspace = useWorkspace();

const place = (name: string): string => path.join(workspace.directory, name);

const check = (name: string): string => {
  workspace.file("nono.json", JSON.stringify({ extends: name }));
  const { status, stderr } = nono(["policy", "check", "./nono.json"], {
    cwd: workspace.directory,
  });
  expect(status).toBe(125);
  expect(stderr).toContain("(ERR_NONO_INVALID_CAPABILITIES)");
  return stderr;
};

describe("what can't be read to its end is no policy", () => {
  test("a pipe", () => {
    spawnSync("mkfifo", [place("pipe.json")]);
    expect(check("./pipe.json")).toContain("it is not a file");
  });

  test("a device without end, a directory", () => {
    expect(check("/dev/zero")).toContain("it is not a file");
    expect(check("/dev/tty/../zero")).toContain("it is not a file");
    expect(check("./")).toContain("it is not a file");
  });

  test("a large file, though it has no data", () => {
    workspace.file("large.json", "");
    truncateSync(place("large.json"), 2 ** 40);
    expect(check("./large.json")).toContain("larger than");
  });

  test("levels without end", () => {
    workspace.file("deep.json", '{"a":'.repeat(100_000));
    expect(check("./deep.json")).toContain("nested too deeply");
  });

  test("policies that double with each level", () => {
    for (let level = 0; level < 40; level += 1) {
      const twice = Array.from({ length: 2 }, () => `./${level + 1}.json`);
      workspace.file(`${level}.json`, JSON.stringify({ extends: twice }));
    }
    workspace.file("40.json", "{}");
    expect(check("./0.json")).toContain("more than 256 policies");
  });

  test("a circle by way of a link", () => {
    symlinkSync(".", place("here"));
    workspace.file("circle.json", '{ "extends": "./here/circle.json" }');
    expect(check("./circle.json")).toMatch(/more than 256 policies|ELOOP/);
  });
});

test("a byte order mark is no part of a policy; what is not UTF-8 is none", () => {
  workspace.file("mark.json", '\uFEFF{ "read": ["/a"] }');
  expect(resolvePolicy(place("mark.json"), {}).read).toEqual(["/a"]);
  spawnSync("sh", ["-c", `printf '{ "deny": ["/\\377"] }' > latin.json`], {
    cwd: workspace.directory,
  });
  expect(() => resolvePolicy(place("latin.json"), {})).toThrow("it is not UTF-8");
});

test("a policy may come from a command of the shell", () => {
  const script = `${process.execPath} ${main} policy print <(echo '{ "read": ["/a"] }')`;
  const { stdout } = spawnSync("bash", ["-c", script], { encoding: "utf8" });
  expect(JSON.parse(stdout)).toMatchObject({ read: ["/a"] });
});

test("a name that is there twice is refused: one of its values would not count", () => {
  workspace.file("twice.json", '{ "deny": ["/secret"],\n  "env": {}, "deny": [] }');
  expect(() => resolvePolicy(place("twice.json"), {})).toThrow('twice.json:2:14: "deny" is there');
  workspace.file("twice.json", '{ "env": { "set": { "A": "1", "A": "2" } } }');
  expect(() => resolvePolicy(place("twice.json"), {})).toThrow('"A" is there twice');
});

test("members of every object are none of a policy's", () => {
  for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
    workspace.file("odd.json", `{ "${name}": { "write": ["/"] } }`);
    expect(() => resolvePolicy(place("odd.json"), {})).toThrow(`no property "${name}"`);
  }
  workspace.file("odd.json", '{ "env": { "set": { "__proto__": "x" } } }');
  const { set } = resolvePolicy(place("odd.json"), {}).env;
  expect(Object.entries(set)).toEqual([["__proto__", "x"]]);
});

describe("what was not meant grants, and denies, nothing else", () => {
  test.for(["read", "write", "exec", "deny", "unixSockets"])("in %s", (kind) => {
    for (const text of ["", "~", "~/.ssh"]) {
      expect(() => resolvePolicy({ [kind]: [text] }, {})).toThrow(JSON.stringify(text));
    }
  });

  test.for(["--allow-read", "--allow-write", "--allow-exec", "--deny", "--allow-unix-socket"])(
    "in %s",
    (flag) => {
      for (const text of flag === "--allow-exec" ? ["~/x"] : ["", "~/.ssh"]) {
        const { status, stderr } = nono(["run", "--no-audit", `${flag}=${text}`, "--", "true"]);
        expect({ status, stderr }).toMatchObject({
          status: 125,
          stderr: expect.stringMatching(/names nothing|does not mean the home directory/),
        });
      }
    },
  );
});

const run = async (file: string, more: object = {}): Promise<string> => {
  const policy = { extends: "shell", write: ["$WORKSPACE"], ...more };
  workspace.file(file, JSON.stringify(policy));
  await using sandbox = new Sandbox({ audit: false }).use(place(file), {
    workspace: workspace.directory,
  });
  const script = `echo '{}' > ${place(file)}; cat ${place(file)} | head -c 2`;
  return (await sandbox.run(["sh", "-c", script])).stdout;
};

test.for(["", "relative", "~"])("a workspace is an absolute path, not %j", (name) => {
  expect(() => new Sandbox().use("node", { workspace: name })).toThrow(PathError);
});

describe("a policy that commands could change", () => {
  test("is refused", async () => {
    await expect(run("agent.jsonc")).rejects.toMatchObject({
      code: "ERR_NONO_INVALID_CAPABILITIES",
      message: expect.stringContaining(`${place("agent.jsonc")} is a policy, and commands could`),
    });
    mkdirSync(place("deeper"));
    // Its directory could be another one the next time.
    await expect(run("deeper/nono.json")).rejects.toThrow("commands could change it by");
  });

  test("is refused when it is another one's", async () => {
    workspace.file("base.json", "{}");
    await expect(run("nono.json", { extends: ["shell", "./base.json"] })).rejects.toThrow(
      `${place("base.json")} is a policy`,
    );
  });

  test("is refused behind links, and as one", async () => {
    mkdirSync(place("elsewhere"));
    workspace.file("elsewhere/base.json", "{}");
    symlinkSync("elsewhere/base.json", place("nono.json"));
    const use = { extends: ["shell", place("nono.json")], write: [workspace.directory] };
    await using sandbox = new Sandbox({ audit: false }).use(use);
    await expect(sandbox.run(["true"])).rejects.toThrow("commands could change it by");
    symlinkSync("/etc", place("etc"));
    workspace.file("by-link.json", "{}");
    const link = new Sandbox({ audit: false }).allowWrite(workspace.directory);
    symlinkSync(import.meta.dirname, place("outside"));
    link.use(path.join(workspace.directory, "outside/support/empty-policy.json"));
    await expect(link.run(["true"])).rejects.toThrow(`by ${place("outside")}`);
    await link.close();
  });

  test("is fine where none can: by its name, by a denial, or elsewhere", async () => {
    expect(await run("nono.jsonc")).toBe('{"');
    expect(await run("agent.jsonc", { deny: ["./agent.jsonc"] })).toBe("");
    expect(await run("agent.jsonc", { write: [] })).toBe("");
  });
});

describe("nono itself", () => {
  const refusal = "nono itself is installed where commands could change it";

  test("is not where commands may write", async () => {
    const own = path.resolve(import.meta.dirname, "..");
    for (const directory of [own, path.dirname(own)]) {
      await using sandbox = new Sandbox({ audit: false }).allowWrite(directory);
      await expect(sandbox.guarantees()).rejects.toThrow(refusal);
    }
    await using sandbox = new Sandbox({ audit: false }).allowWrite(path.join(own, "test"));
    expect(await sandbox.guarantees()).not.toEqual([]);
  });

  test("nor is the link by which npx finds it", () => {
    mkdirSync(place("node_modules/.bin"), { recursive: true });
    symlinkSync(main, place("node_modules/.bin/nono"));
    const run = (...flags: string[]): string => {
      const args = [place("node_modules/.bin/nono"), "run", "--no-audit", ...flags, "--", "true"];
      return spawnSync(process.execPath, args, { cwd: workspace.directory, encoding: "utf8" })
        .stderr;
    };
    expect(run("--allow-write", ".")).toContain(`${refusal}: ${place("node_modules/.bin/nono")}`);
    expect(run("--allow-write", ".", "--no-protect")).toBe("");
    expect(run("--allow-read", ".")).toBe("");
  });
});
