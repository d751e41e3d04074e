import { spawn, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { userInfo } from "node:os";
import process from "node:process";
import { at, has } from "./scratch.ts";
import { makeRepository } from "./nginx.ts";

/** How a client reaches the server: its repository's URL and the command for GIT_SSH_COMMAND. */
export interface SshServer {
  readonly url: string;
  readonly command: string;
  stop(): void;
}

const publicKey = (key: string): string => readFileSync(at(`${key}.pub`), "utf8");

/**
 * OpenSSH's own server at port 22, one process for each connection; undefined where it is not installed. As root it
 * separates privileges below a /run of its own. Root of a user namespace may not (setgroups is denied there), so it
 * runs in a namespace within, as the user that it really is.
 */
export async function sshServer(address: string, name: string): Promise<SshServer | undefined> {
  if (!has("sshd") || !has("ssh")) return undefined;
  makeRepository("ssh.git");
  for (const key of ["host", "user"]) {
    spawnSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", at(key)]);
  }
  writeFileSync(at("authorized"), publicKey("user"));
  writeFileSync(at("known"), `${name} ${publicKey("host")}`);
  writeFileSync(
    at("sshd.conf"),
    `HostKey ${at("host")}\nAuthorizedKeysFile ${at("authorized")}\nStrictModes no\nUsePAM no\nPidFile none\n`,
  );
  const sshd = ["/usr/sbin/sshd", "-i", "-f", at("sshd.conf"), "-E", at("sshd.log")];
  const [uid, gid] = (process.env["NONO_OUTER_IDS"] ?? "0 0").split(" ");
  const own = 'mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"';
  const argv =
    uid === "0"
      ? ["unshare", "--mount", "sh", "-c", own, "sh", ...sshd]
      : ["unshare", "--user", `--map-user=${uid}`, `--map-group=${gid}`, ...sshd];
  const [program = "", ...args] = argv;
  const server = net.createServer({ pauseOnConnect: true }, (peer) => {
    spawn(program, args, { stdio: [peer, peer, "ignore"] });
  });
  await new Promise<void>((resolve) => {
    server.listen(22, address, resolve);
  });
  const user = uid === "0" ? userInfo().username : (process.env["USER"] ?? "");
  return {
    url: `ssh://${user}@${name}${at("ssh.git")}`,
    command: `ssh -F /dev/null -i ${at("user")} -o UserKnownHostsFile=${at("known")} -o StrictHostKeyChecking=yes`,
    stop: () => void server.close(),
  };
}
