// Runs in the world that netns.py makes: servers and the gate here, unmodified clients in a sandbox of @nono/core, whose
// tier is the argument; or, with `explicit`, clients that know the gate by its environment alone. Prints one JSON line for each client: name, exit status, output.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { createGate } from "../../src/index.ts";
import { upstreamAuthority } from "../support/upstream.ts";
import {
  type Client,
  fetchers,
  installers,
  needsGrpc,
  nginxClients,
  offenders,
  resolvers,
  sshClients,
  tunnelled,
} from "./clients.ts";
import { nginxServer } from "./nginx.ts";
import { packageServer } from "./packages.ts";
import { openSandbox, runClient } from "./sandbox.ts";
import { at, clear, directory, has, secret, selfSigned } from "./scratch.ts";
import { sshServer } from "./ssh.ts";

const run = promisify(execFile);
const emit = (line: Record<string, unknown>): void => console.log(JSON.stringify(line));
/** Addresses of the world's servers; netns.py puts them on its loopback. */
const [packages, web, rpc] = ["93.184.216.34", "93.184.216.35", "93.184.216.36"];
const addresses: Record<string, string> = {
  "git.test": web,
  "grpc.test": rpc,
  "rebound.test": "169.254.169.254",
};

const stopPackages = await packageServer(packages);
const nginx = nginxServer(web);
const ssh = await sshServer(packages, "ssh.test");
const grpcPeer = at("grpc-peer.py");
copyFileSync(path.join(import.meta.dirname, "grpc-peer.py"), grpcPeer);
const grpcFiles = selfSigned("grpc.test");
const grpc = has(needsGrpc)
  ? spawn("/usr/bin/python3", [grpcPeer, "server", `${rpc}:443`, grpcFiles.cert, grpcFiles.key])
  : undefined;
if (grpc) await once(grpc.stdout, "data");

const value = { description: "the test's value", read: async () => Buffer.from(secret) };
const hosts = ["echo", "npm", "pypi", "grpc", "cargo", "sts"];
const bearer = hosts.map((name) => `${name}.test`);
const gate = createGate({
  allow: [...bearer, "git.test", "ssh.test:22", "rebound.test", "opaque.test"],
  resolver: { resolve: async (name) => [addresses[name] ?? packages] },
  tls: {
    ca: [
      upstreamAuthority.certificate,
      readFileSync(grpcFiles.cert, "utf8"),
      ...(nginx ? [readFileSync(nginx.cert, "utf8")] : []),
    ],
  },
  credentials: [
    { name: "ECHO_TOKEN", proxyTo: bearer, source: value },
    {
      name: "GIT_TOKEN",
      proxyTo: "git.test",
      scheme: { type: "basic", username: "x-access-token" },
      source: value,
    },
  ],
});
const [, , way = ""] = process.argv;
const explicit = way === "explicit";
const sandbox = explicit ? undefined : await openSandbox(way as "namespaces" | "flat", gate);
if (explicit) await gate.listen();
const environment = {
  // The system's own programs: another Python in front of it lies where the sandbox reads nothing.
  PATH: `${path.dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin`,
  HOME: directory,
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
  GIT_SSH_COMMAND: ssh?.command ?? "",
  npm_config_registry: "https://npm.test/",
  npm_config_cache: at("npm-cache"),
  npm_config_update_notifier: "false",
  ...gate.env(),
};
async function tryClient({ name, argv, needs }: Client): Promise<void> {
  if (!has(needs)) {
    emit({ name, skipped: `${needs} is not there` });
    return;
  }
  emit({ name, ...(await runClient(sandbox, argv, environment)) });
}

const everywhere = [...fetchers(), ...installers(), ...nginxClients(), ...tunnelled(grpcPeer)];
// Neither SSH nor DNS has a proxy, and what is refused through one has tests of its own.
const transparent = [...offenders(), ...resolvers(), ...sshClients(ssh)];
for (const each of explicit ? everywhere : [...everywhere, ...transparent]) await tryClient(each);
if (nginx) {
  const { stdout } = await run("git", ["-C", at("repo.git"), "log", "--format=%s"]);
  emit({ name: "pushed log", status: 0, output: stdout });
}
await tryClient({ name: "environment", argv: ["env"], needs: "env" });
emit({ name: "violations", status: 0, output: JSON.stringify(gate.violations) });
emit({ name: "secret", status: 0, output: secret });
await sandbox?.close();
await gate.close();
nginx?.stop();
ssh?.stop();
grpc?.kill("SIGKILL");
stopPackages();
clear();
