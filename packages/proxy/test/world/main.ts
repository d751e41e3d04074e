// Runs in the world that netns.py makes: servers and the gate here, unmodified clients in the sandbox's namespace.
// Prints one JSON line for each client: name, exit status, output.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { type GateListener, createGate } from "../../src/index.ts";
import { upstreamAuthority } from "../support/upstream.ts";
import { type Client, fetchers, installers, nginxClients, offenders } from "./clients.ts";
import { nginxServer } from "./nginx.ts";
import { packageServer } from "./packages.ts";
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
const grpcPeer = path.join(import.meta.dirname, "grpc-peer.py");
const grpcNeeds = "/usr/bin/python3 -c 'import grpc'";
const grpcFiles = selfSigned("grpc.test");
const grpc = has(grpcNeeds)
  ? spawn("/usr/bin/python3", [grpcPeer, "server", `${rpc}:443`, grpcFiles.cert, grpcFiles.key])
  : undefined;
if (grpc) await once(grpc.stdout, "data");

const listeners: GateListener[] = (
  JSON.parse(process.env["NONO_FDS"] ?? "[]") as Omit<GateListener, "destination">[]
).map((listener) => ({
  ...listener,
  destination: ({ localAddress, localPort }) => ({ address: localAddress, port: localPort }),
}));
const value = { description: "the test's value", read: async () => Buffer.from(secret) };
const bearer = ["echo.test", "npm.test", "pypi.test", "grpc.test"];
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
await gate.serve(listeners);

writeFileSync(at("resolv.conf"), "nameserver 9.9.9.9\n");
const environment = {
  PATH: process.env["PATH"] ?? "",
  HOME: directory,
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
  GIT_SSH_COMMAND: ssh?.command ?? "",
  npm_config_registry: "https://npm.test/",
  npm_config_cache: at("npm-cache"),
  npm_config_update_notifier: "false",
  ...gate.env(),
};
const enter =
  'mount --bind "$1" /etc/resolv.conf; shift; exec setpriv --bounding-set=-all --inh-caps=-all "$@"';
const inSandbox = [
  `--net=${process.env["NONO_NETNS"]}`,
  ..."unshare --mount --propagation private sh -c".split(" "),
  enter,
  "sh",
  at("resolv.conf"),
];

async function tryClient({ name, argv, needs }: Client): Promise<void> {
  if (!has(needs)) {
    emit({ name, skipped: `${needs} is not there` });
    return;
  }
  try {
    const options = { cwd: directory, env: environment, timeout: 60_000 };
    const { stdout, stderr } = await run("nsenter", [...inSandbox, ...argv], options);
    emit({ name, status: 0, output: stdout + stderr });
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: number; stdout?: string; stderr?: string };
    emit({ name, status: code ?? -1, output: `${stdout}${stderr}` });
  }
}

const skipped = (name: string, why: string): void => emit({ name, skipped: why });
for (const each of [...fetchers(), ...installers(), ...offenders()]) await tryClient(each);
if (nginx) {
  for (const each of nginxClients()) await tryClient(each);
  const { stdout } = await run("git", ["-C", at("repo.git"), "log", "--format=%s"]);
  emit({ name: "pushed log", status: 0, output: stdout });
} else {
  for (const { name } of nginxClients()) skipped(name, "nginx or fcgiwrap is not there");
  skipped("pushed log", "nginx or fcgiwrap is not there");
}
if (ssh) {
  const clone = ["git", "clone", "-q", ssh.url, at("ssh-clone")];
  await tryClient({ name: "git clone over SSH", argv: clone, needs: "git" });
  const commit =
    "cd ssh-clone && git -c user.name=a -c user.email=a@nono.test commit -q --allow-empty -m agent && git push -q origin main";
  await tryClient({ name: "git push over SSH", argv: ["sh", "-c", commit], needs: "git" });
} else {
  for (const what of ["clone", "push"]) skipped(`git ${what} over SSH`, "OpenSSH is not there");
}
const curl = ["curl", "-sS", "https://opaque.test/"];
await tryClient({ name: "opaque with its own certificate", argv: curl, needs: "curl" });
const first = "import socket; print(socket.create_connection(('ssh.test', 22)).recv(99))";
await tryClient({ name: "server speaks first", argv: ["python3", "-c", first], needs: "sshd" });
const grpcClient = ["/usr/bin/python3", grpcPeer, "client", "grpc.test:443"];
await tryClient({ name: "gRPC", argv: grpcClient, needs: grpcNeeds });
await tryClient({ name: "environment", argv: ["env"], needs: "env" });
emit({ name: "violations", status: 0, output: JSON.stringify(gate.violations) });
emit({ name: "secret", status: 0, output: secret });
await gate.close();
nginx?.stop();
ssh?.stop();
grpc?.kill("SIGKILL");
stopPackages();
clear();
