// Installs what the tests use and this machine may lack. As root only; tests say so where something is missing.
import { spawnSync } from "node:child_process";
import process from "node:process";

const tools: Record<string, string> = {
  nginx: "nginx",
  curl: "curl",
  git: "git",
  wget: "wget",
  openssl: "openssl",
  nghttp: "nghttp2-client",
  wrk: "wrk",
  fcgiwrap: "fcgiwrap",
  "gnome-keyring-daemon": "gnome-keyring",
  "dbus-run-session": "dbus",
  "secret-tool": "libsecret-tools",
  ip: "iproute2",
};

function apt(...args: string[]): number | null {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync("apt-get", args, { stdio: "ignore", env }).status;
}

const has = (tool: string): boolean =>
  spawnSync("sh", ["-c", `command -v ${tool} || test -x /usr/sbin/${tool}`]).status === 0;
const missing = Object.keys(tools).filter((tool) => !has(tool));
if (missing.length > 0 && process.getuid?.() === 0) {
  const packages = missing.map((tool) => tools[tool] ?? tool);
  apt("update");
  if (apt("install", "-y", "--no-install-recommends", ...packages) !== 0) {
    for (const name of packages) apt("install", "-y", "--no-install-recommends", name);
  }
}
for (const tool of Object.keys(tools)) {
  if (!has(tool)) console.log(`SKIPPED: proxy tests with ${tool}: it is not installed`);
}
