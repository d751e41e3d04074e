import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { at, directory, has, secret, selfSigned } from "./scratch.ts";

const git = (...args: string[]): void => void spawnSync("git", args, { cwd: directory });

/** A bare repository with one commit, which may be pushed to. */
export function makeRepository(name: string): void {
  const identity = ["-c", "user.name=t", "-c", "user.email=t@nono.test"];
  git("init", "--bare", "-b", "main", name);
  git("-C", name, "config", "http.receivepack", "true");
  git("init", "-b", "main", `${name}-seed`);
  git("-C", `${name}-seed`, ...identity, "commit", "--allow-empty", "-m", "seed");
  git("-C", `${name}-seed`, "push", at(name), "main");
}

/**
 * Debian's nginx over TLS with HTTP/2 and HTTP/1.1, and git's own http-backend behind it, which wants Basic
 * credentials. Returns its certificate and what ends it; undefined where it is not installed.
 */
export function nginxServer(address: string): { cert: string; stop: () => void } | undefined {
  if (!has("nginx") || !has("fcgiwrap")) return undefined;
  mkdirSync(at("logs"), { recursive: true });
  makeRepository("repo.git");
  const { cert, key } = selfSigned("git.test");
  const pair = Buffer.from(`x-access-token:${secret}`).toString("base64");
  writeFileSync(
    at("nginx.conf"),
    `user root; daemon off; pid ${at("pid")}; error_log ${at("logs", "error.log")};
events {}
http {
  access_log off; client_body_temp_path ${at("body")}; proxy_temp_path ${at("p")};
  fastcgi_temp_path ${at("f")}; uwsgi_temp_path ${at("u")}; scgi_temp_path ${at("s")};
  server {
    listen ${address}:443 ssl http2; server_name git.test;
    ssl_certificate ${cert}; ssl_certificate_key ${key};
    client_max_body_size 0;
    location / { return 200 "nginx $server_protocol\\n"; }
    location ~ ^/repo.git/ {
      if ($http_authorization != "Basic ${pair}") { return 401; }
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
  return {
    cert,
    stop: () => {
      nginx.kill("SIGTERM");
      cgi.kill("SIGTERM");
    },
  };
}
