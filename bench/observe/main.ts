// What does watching cost? Real jobs, each in three sandboxes that differ only in `observe`, and outside
// of any. All take turns in every round; prints the ratios of their medians to `observe: "off"`.
//
// Two more runs outside show what no supervisor can do without: their calls are parked as "changes" and
// "all" park them, and let go on unseen (`floor.c`). Prints the ratios of their medians to outside.
//
//   node bench/observe/main.ts [rounds]
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { createSandbox, type SandboxOptions } from "@nono/core";

const rounds = Number(process.argv[2] ?? 7);
const checkout = path.resolve(import.meta.dirname, "../..");
const place = realpathSync(mkdtempSync("/var/tmp/nono-bench-"));

/** Shell commands, run in the directory of the bench; what comes before the last is not timed. */
const jobs: Record<string, readonly string[]> = {
  "git status, 10,000 files": ["git -C many status --short"],
  // Nothing is deleted in between: ext4 without a journal looks at each inode that was freed lately before
  // it takes one (`recently_deleted` in fs/ext4/ialloc.c).
  "clone, status, grep": [
    "copy=$(mktemp -d copy-XXXXXX) && git clone -q source $copy && git -C $copy status -s && grep -rc main $copy",
  ],
  "python imports": [
    "python3 -c 'import asyncio, email, http.server, json, sqlite3, unittest, xml.dom'",
  ],
  "make -j2, 24 files": ["make -s -C build clean", "make -s -C build -j2"],
  "npm --version": ["npm --version"],
  "find a library tree": ["find /usr/lib/python3 /usr/share/doc"],
};

const watched = ["outside", "off", "changes", "all"] as const;
const parked = { "floor changes": "changes", "floor all": "all" } as const;
type Mode = (typeof watched)[number] | keyof typeof parked;
const modes: readonly Mode[] = [...watched, "floor changes", "floor all"];

function prepare(): void {
  const shell = (script: string): void => {
    const { status, stderr } = spawnSync("sh", ["-ec", script], { cwd: place, encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
  };
  const commit =
    "git init -q; git config gc.auto 0; git config user.name bench; git config user.email b@example.test;" +
    "git add .; git commit -qm all; git gc -q";
  for (let file = 0; file < 10_000; file++) {
    const directory = path.join(place, "many", `d${file % 100}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(
      path.join(directory, `f${file}.c`),
      `int main${file}(void) { return ${file}; }\n`,
    );
  }
  shell(`cd many; ${commit}`);
  // This project's own files, but for names that stay protected inside.
  shell(
    `mkdir source; git -C ${checkout} ls-files -z | grep -zv '/[.]' | grep -zv '^[.]' |` +
      `tar -C ${checkout} --null -T - -cf - | tar -C source -xf -; cd source; ${commit}`,
  );
  mkdirSync(path.join(place, "build"));
  for (let file = 0; file < 24; file++) {
    const source = `#include <stdio.h>\n#include <stdlib.h>\nint f${file}(void) { return ${file}; }\n`;
    writeFileSync(path.join(place, "build", `f${file}.c`), source);
  }
  const floor = path.join(import.meta.dirname, "floor.c");
  shell(`cc -O2 -o floor ${floor} -lpthread`);
  const rules = "OBJ=$(patsubst %.c,%.o,$(wildcard *.c))\nall: $(OBJ)\nclean:\n\trm -f *.o\n";
  writeFileSync(path.join(place, "build", "Makefile"), rules);
}

async function measure(tier: NonNullable<SandboxOptions["tier"]>): Promise<void> {
  const capabilities = {
    read: ["/usr", "/etc"],
    write: [place],
    exec: ["/bin", "/usr/bin", "/usr/lib", "/usr/libexec", "/usr/local"],
  };
  const sandboxes = new Map<Mode, Awaited<ReturnType<typeof createSandbox>>>();
  for (const observe of ["off", "changes", "all"] as const) {
    const sandbox = await createSandbox(
      { ...capabilities, protect: observe !== "off" },
      { tier, observe },
    );
    sandboxes.set(observe, sandbox);
  }
  // Not the caller's, in which a version manager may have put programs that are scripts of its own.
  const env = { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: place, TMPDIR: place };
  const times = new Map<string, number[]>();
  for (let round = 0; round <= rounds; round++) {
    for (const [job, scripts] of Object.entries(jobs)) {
      for (const mode of modes) {
        const sandbox = sandboxes.get(mode);
        let milliseconds = 0;
        for (const script of scripts) {
          const argv = ["sh", "-c", script] as const;
          const level = parked[mode as keyof typeof parked] as string | undefined;
          const [program = "", ...rest] = level ? ["./floor", level, ...argv] : argv;
          const before = process.hrtime.bigint();
          const status = sandbox
            ? (await sandbox.run(argv, { cwd: place, env })).exitCode
            : spawnSync(program, rest, { cwd: place, env }).status;
          milliseconds = Number(process.hrtime.bigint() - before) / 1e6;
          if (status !== 0) throw new Error(`${script} in ${mode}: exit ${status}`);
        }
        const key = `${job} ${mode}`;
        if (round > 0) times.set(key, [...(times.get(key) ?? []), milliseconds]); // the first warms up
      }
    }
  }
  for (const sandbox of sandboxes.values()) await sandbox.close();
  console.log(`\ntier ${tier}`.padEnd(38) + modes.map((mode) => mode.padStart(15)).join(""));
  for (const job of Object.keys(jobs)) {
    const of = (mode: Mode): number => median(times.get(`${job} ${mode}`) ?? []);
    const ratios = modes.map((mode) => {
      const baseline = mode in parked ? "outside" : "off";
      return `${(of(mode) / of(baseline)).toFixed(2)}x`.padStart(15);
    });
    console.log(`${job.padEnd(37)}${ratios.join("")}   (off: ${of("off").toFixed(0)} ms)`);
  }
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

try {
  prepare();
  console.log(`${rounds} interleaved rounds; Linux ${os.release()}, Node ${process.version}`);
  for (const tier of ["namespaces", "flat"] as const) await measure(tier);
} finally {
  rmSync(place, { recursive: true, force: true });
}
