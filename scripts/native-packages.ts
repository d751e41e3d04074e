// Before publishing, in a checkout that is thrown away: makes packages of the native parts that were built
// (packages/*/artifacts), and lets @nono/core and @nono/rollback ask for them by platform. What was not
// built for a platform is not published for it. Each package says from which repository it is, which must
// be the one that provenance is signed for (npm docs: "Generating provenance statements").
//
//   node scripts/native-packages.ts [ROOT]
import { execFileSync } from "node:child_process";
import {
  existsSync,
  globSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import process from "node:process";

interface Manifest {
  name: string;
  version: string;
  napi: { binaryName: string };
  publishConfig: object;
  optionalDependencies: Record<string, string>;
}

const root = path.resolve(process.argv[2] ?? path.join(import.meta.dirname, ".."));

for (const layer of ["core", "rollback"]) packageNatives(path.join(root, "packages", layer));
for (const file of globSync("packages/{*,*/npm/*}/package.json", { cwd: root }))
  nameRepository(file);

function packageNatives(directory: string): void {
  const manifest = read<Manifest>(path.join(directory, "package.json"));
  const napi = path.join(directory, "node_modules/.bin/napi");
  execFileSync(napi, ["create-npm-dirs"], { cwd: directory, stdio: "ignore" });
  const platforms = readdirSync(path.join(directory, "npm")).filter((platform) => {
    const addon = `${manifest.napi.binaryName}.${platform}.node`;
    const built = path.join(directory, "artifacts", addon);
    const home = path.join(directory, "npm", platform);
    if (existsSync(built)) renameSync(built, path.join(home, addon));
    else rmSync(home, { recursive: true });
    return existsSync(home);
  });
  for (const platform of platforms) {
    const file = path.join(directory, "npm", platform, "package.json");
    write(file, { ...read<object>(file), publishConfig: manifest.publishConfig });
    // Not "workspace:*": pnpm looks that up among what is installed.
    manifest.optionalDependencies[`${manifest.name}-${platform}`] ??= manifest.version;
  }
  write(path.join(directory, "package.json"), manifest);
  console.log(`${manifest.name}: ${platforms.join(", ")}`);
}

/** In GitHub Actions; elsewhere nothing is signed, and nothing needs it. */
function nameRepository(manifest: string): void {
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: repository } = process.env;
  if (server === undefined || repository === undefined) return;
  const file = path.join(root, manifest);
  const url = `git+${server}/${repository}.git`;
  const directory = path.dirname(manifest);
  write(file, { ...read<object>(file), repository: { type: "git", url, directory } });
}

function read<T>(file: string): T {
  return JSON.parse(readFileSync(file, "utf8")) as T;
}

function write(file: string, value: object): void {
  writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}
