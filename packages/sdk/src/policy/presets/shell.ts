import type { Preset } from "./preset.ts";

/** What a shell script is usually made of (the POSIX utilities, and their common companions). */
const utilities = [
  ..."awk basename cat chmod cmp comm cp cut date dd df diff dirname du echo env expr false file find".split(
    " ",
  ),
  ..."fold gawk getopt grep egrep fgrep head hostname id install join less ln ls mawk mkdir mkfifo mktemp".split(
    " ",
  ),
  ..."more mv nl nproc od paste patch perl printenv printf ps pwd readlink realpath rm rmdir sed seq sha256sum".split(
    " ",
  ),
  ..."sleep sort split stat stty tac tail tar tee test timeout touch tr true tty uname uniq unzip wc which".split(
    " ",
  ),
  ..."whoami xargs yes xz gzip gunzip bzip2 zip".split(" "),
];

/** Shells with the programs that scripts take for granted. */
export const shell: Preset = {
  summary: "sh, bash and the programs that scripts take for granted",
  policy: (host) => ({
    extends: "scratch",
    read: ["/etc/bash.bashrc?", "/etc/profile?", "/etc/profile.d?"],
    exec: ["sh", "bash?", ...utilities.map((name) => `${name}?`)],
    // Not the user's own, which may be a shell that can't run here: agents start their commands with it.
    env: { set: { SHELL: host.program("bash") ?? "/bin/sh" } },
  }),
};
