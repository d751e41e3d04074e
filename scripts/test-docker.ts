// Runs nono's Rust tests and `nono doctor` in containers of a real Docker, with its own seccomp profile
// and /proc: as root and as a user that the machine does not know. `pnpm test` has a filter that refuses
// the same calls; this takes Docker's daemon and minutes, so it is no part of it.
//
//   node scripts/test-docker.ts             # all of them
//   node scripts/test-docker.ts watch::     # of the Rust tests only those
import path from "node:path";
import process from "node:process";
import { Docker } from "../tests/containers/docker.ts";
import { Unavailable } from "../tests/kernels/debian.ts";
import { fetchGuestRoot } from "../tests/kernels/guest-root.ts";
import { buildTestBinaries } from "./test-binaries.ts";

const project = path.resolve(import.meta.dirname, "..");
const directory = path.join(project, "target/docker");
const image = "nono-tests";

/** What the container itself refuses, and what takes too long for this. */
const left = [
  "stress",
  "agreement",
  "differential",
  "gate_programs",
  "traced",
  "a_fork_bomb", // limits of processes take a control group as root
  "two_thousand_denials", // some of the calls are refused before nono's own filter is asked
  "watch::", // pidfd_getfd is refused, so nobody can watch
];

interface Container {
  readonly name: string;
  readonly flags: readonly string[];
  /** The tier that is to be built there. */
  readonly tier: "flat" | "namespaces";
}

const unconfined = ["seccomp=unconfined", "systempaths=unconfined"].flatMap((option) => [
  "--security-opt",
  option,
]);
const unknownUser = ["--user", "54321:54321"];
const containers: readonly Container[] = [
  { name: "root", flags: [], tier: "flat" },
  { name: "an unknown user", flags: unknownUser, tier: "flat" },
  {
    name: "an unknown user without capabilities",
    flags: [...unknownUser, "--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
    tier: "flat",
  },
  { name: "root, unconfined", flags: unconfined, tier: "namespaces" },
  {
    name: "an unknown user, unconfined",
    flags: [...unknownUser, ...unconfined],
    tier: "namespaces",
  },
];

const totals = { passed: 0, failed: 0, skipped: 0 };

function check(what: string, holds: boolean, told: string): void {
  totals[holds ? "passed" : "failed"] += 1;
  console.log(`${what}: ${holds ? "ok" : `FAILED\n${told}`}`);
}

function test(docker: Docker, { name, flags, tier }: Container, binaries: readonly string[]): void {
  const always = [
    ["--rm", "--init", "--network", "none", "--volume", `${project}:${project}:ro`],
    ["--tmpfs", "/workspace:exec,mode=1777", "--workdir", "/workspace"],
    ["--tmpfs", "/state:exec,mode=1777", "--env", "HOME=/state"],
    // Docker lets everybody have any port; elsewhere those below are root's.
    ["--sysctl", "net.ipv4.ip_unprivileged_port_start=1024"],
  ].flat();
  const run = (...command: string[]) => docker.call("run", ...always, ...flags, image, ...command);
  const nono = [process.execPath, path.join(project, "packages/sdk/dist/cli/main.js")];
  const doctor = run(...nono, "doctor", "--json");
  check(
    `${name}: nono doctor: the tier ${tier}`,
    doctor.status === 0 && Object.keys(JSON.parse(doctor.stdout).tiers)[0] === tier,
    doctor.stdout + doctor.stderr,
  );
  const only = process.argv.slice(2);
  const selection = only.length > 0 ? only : left.flatMap((test) => ["--skip", test]);
  for (const binary of binaries) {
    const { stdout, stderr } = run(binary, "--color=never", "--show-output", ...selection);
    const summary = /^test result: .* (\d+) passed; (\d+) failed; (\d+) ignored/m.exec(stdout);
    const [passed = 0, failed = 1, skipped = 0] = summary?.slice(1).map(Number) ?? [];
    if (failed > 0) console.log(stdout + stderr);
    console.log(`${name}: ${path.basename(binary)}: ${passed} passed, ${failed} failed`);
    totals.passed += passed;
    totals.failed += failed;
    totals.skipped += skipped;
  }
}

try {
  await using docker = await Docker.start(directory);
  docker.import(fetchGuestRoot("trixie", "amd64", path.join(directory, "root")), image);
  const binaries = buildTestBinaries("--package", "nono").map(({ executable }) => executable);
  for (const container of containers) test(docker, container, binaries);
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  totals.skipped += 1;
  console.log(`skipped: Docker: ${error.message}`);
}
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed > 0 ? 1 : 0;
