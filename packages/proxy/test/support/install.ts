// Installs and builds what the tests use and this machine may lack. What cannot be had is named; tests skip it.
import { execFile, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { cached } from "./cache.ts";

/** A shell command that succeeds where the tool is there, and the Debian package that brings it. */
const tools: readonly (readonly [string, string])[] = [
  ["test -x /usr/sbin/nginx", "nginx"],
  ["command -v curl", "curl"],
  ["command -v git", "git"],
  ["command -v wget", "wget"],
  ["command -v openssl", "openssl"],
  ["command -v nghttp", "nghttp2-client"],
  ["command -v wrk", "wrk"],
  ["test -x /usr/sbin/fcgiwrap", "fcgiwrap"],
  ["command -v gnome-keyring-daemon", "gnome-keyring"],
  ["command -v dbus-run-session", "dbus"],
  ["command -v secret-tool", "libsecret-tools"],
  ["pkg-config --exists libsecret-1", "libsecret-1-dev"],
  ["command -v tinyproxy", "tinyproxy-bin"],
  ["command -v musl-gcc", "musl-tools"],
  ["command -v ruby", "ruby"],
  ["/usr/bin/python3 -m pip --version", "python3-pip"],
  ["command -v dig", "bind9-dnsutils"],
  ["command -v ip", "iproute2"],
  ["test -x /usr/sbin/sshd", "openssh-server"],
  ["command -v ssh", "openssh-client"],
  ["/usr/bin/python3 -c 'import grpc'", "python3-grpcio"],
  ["/usr/bin/python3 -c 'import requests'", "python3-requests"],
  ["/usr/bin/python3 -c 'import httpx, h2'", "python3-httpx python3-h2"],
];

/** For each of them, in milliseconds: they share the processors, with others too. */
const patience = 600_000;

/** Whether a command ends well, and in time. */
async function runs(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<boolean> {
  const options = { env: { ...process.env, ...env }, timeout: patience, maxBuffer: 1 << 26 };
  return promisify(execFile)(command, args, options).then(
    () => true,
    () => false,
  );
}

const succeeds = (command: string): boolean => spawnSync("sh", ["-c", command]).status === 0;

function apt(...args: string[]): number | null {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync("apt-get", args, { stdio: "ignore", env }).status;
}

function installPackages(): void {
  const missing = tools.filter(([probe]) => !succeeds(probe));
  if (missing.length > 0 && process.getuid?.() === 0) {
    const packages = missing.flatMap(([, names]) => names.split(" "));
    apt("update");
    if (apt("install", "-y", "--no-install-recommends", ...packages) !== 0) {
      for (const name of packages) apt("install", "-y", "--no-install-recommends", name);
    }
  }
  for (const [probe, name] of tools) {
    if (!succeeds(probe)) console.log(`SKIPPED: proxy tests with ${name}: it is not installed`);
  }
}

/** The archived module has no binary for a new Node: it is compiled, with the headers that came with this Node. */
async function buildKeytar(): Promise<void> {
  if (existsSync(cached.keytar)) return;
  const prefix = path.join(cached.directory, "keytar");
  mkdirSync(prefix, { recursive: true });
  const nodedir = path.resolve(process.execPath, "..", "..");
  const env = { npm_config_nodedir: nodedir, npm_config_build_from_source: "true" };
  const args = ["install", "--no-audit", "--no-fund", "--prefix", prefix, "keytar@7.9.0"];
  if (!(await runs("npm", args, env)))
    console.log("SKIPPED: proxy tests with node-keytar: it could not be built");
}

const goProgram = `package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	response, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	body, _ := io.ReadAll(response.Body)
	fmt.Print(string(body))
}
`;

/** Once as Go does it here, and once with nothing of the C library. */
async function buildGoClients(): Promise<void> {
  if (!succeeds("command -v go")) return;
  const source = path.join(cached.directory, "go-client.go");
  writeFileSync(source, goProgram);
  for (const [program, more] of [
    [cached.goClient, {}],
    [cached.goStatic, { CGO_ENABLED: "0" }],
  ] as const) {
    if (existsSync(program)) continue;
    // With the flags of the oracles of @nono/audit: what both are made of is compiled once.
    await runs("go", ["build", "-trimpath", "-o", program, source], {
      GOFLAGS: "-mod=mod",
      ...more,
    });
  }
}

const javaPrograms = {
  Echo: `public class Echo { public static void main(String[] a) throws Exception {
    System.out.print(new String(new java.net.URL("https://echo.test/java").openStream().readAllBytes())); } }`,
  Authenticated: `import java.net.*;
    public class Authenticated { public static void main(String[] a) throws Exception {
    String[] pair = URI.create(System.getenv("HTTPS_PROXY")).getUserInfo().split(":");
    Authenticator.setDefault(new Authenticator() { protected PasswordAuthentication getPasswordAuthentication() {
      return new PasswordAuthentication(pair[0], pair[1].toCharArray()); } });
    System.out.print(new String(new URL("https://echo.test/java").openStream().readAllBytes())); } }`,
};

async function buildJavaClients(): Promise<void> {
  if (!succeeds("command -v javac")) return;
  mkdirSync(cached.java, { recursive: true });
  const sources = Object.entries(javaPrograms).map(([name, text]) => {
    const source = path.join(cached.java, `${name}.java`);
    writeFileSync(source, text);
    return source;
  });
  if (!existsSync(path.join(cached.java, "Echo.class")))
    await runs("javac", ["-d", cached.java, ...sources]);
}

/** Reads a server's first words, the name resolved by musl. */
async function buildMuslClient(): Promise<void> {
  if (existsSync(cached.muslClient) || !succeeds("command -v musl-gcc")) return;
  const source = path.join(import.meta.dirname, "musl-client.c");
  spawnSync("musl-gcc", ["-static", "-o", cached.muslClient, source], { stdio: "inherit" });
}

/** cargo itself, not rustup's stand-in for it, where every user can read it; and a client. */
async function buildRustClients(): Promise<void> {
  const located = spawnSync("rustup", ["which", "cargo"], { encoding: "utf8" });
  if (located.status === 0 && !existsSync(cached.cargo)) {
    copyFileSync(located.stdout.trim(), cached.cargo);
  }
  if (existsSync(cached.rustClient)) return;
  const manifest = path.join(import.meta.dirname, "rust-client", "Cargo.toml");
  const target = path.join(cached.directory, "rust-target");
  // Not optimized: it makes one request, and building it is what takes time.
  const args = ["build", "--locked", "--manifest-path", manifest, "--target-dir", target];
  if (await runs("cargo", args))
    copyFileSync(path.join(target, "debug/rust-client"), cached.rustClient);
}

async function fetchDeno(): Promise<void> {
  if (existsSync(cached.deno)) return;
  const prefix = path.join(cached.directory, "deno");
  mkdirSync(prefix, { recursive: true });
  const args = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", prefix];
  await runs("npm", [...args, "deno@2"]);
}

async function fetchAwsCli(): Promise<void> {
  if (existsSync(cached.aws)) return;
  const args = ["-m", "pip", "install", "--quiet", "--target", cached.aws, "awscli"];
  await runs("/usr/bin/python3", args);
}

async function install(): Promise<void> {
  mkdirSync(cached.directory, { recursive: true });
  installPackages();
  // What one of them downloads while another compiles.
  await Promise.all([
    buildRustClients(),
    buildGoClients(),
    buildJavaClients(),
    buildMuslClient(),
    buildKeytar(),
    fetchDeno(),
    fetchAwsCli(),
  ]);
}

// Else scripts/test.ts has had it done.
if (process.env["NONO_TOOLS_INSTALLED"] === undefined) await install();
