#!/bin/bash
# Runs the test binaries in /run/tests as root and as an ordinary user, each in such a control group as
# systemd gives it, and powers off. The arguments of the binaries are in /run/tests/arguments.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ulimit -n 65536 # all tests of a binary share one process
user=64321
groups=/sys/fs/cgroup

# divide GROUP...: lets each of them divide what it has.
divide() {
  for group; do
    mkdir -p "$groups/$group"
    echo "+memory +pids +cpu" >"$groups/$group/cgroup.subtree_control"
  done
}

# Root's session, which nothing was delegated to, and a user's service manager, which owns its part.
session=user.slice/user-0.slice/session-1.scope
manager=user.slice/user-$user.slice/user@$user.service
divide . user.slice user.slice/user-0.slice "${manager%/*}" "$manager" "$manager/app.slice"
mkdir "$groups/$session" "$groups/$manager/app.slice/test.scope"
chown -R "$user:$user" "$groups/$manager"

echo "kernel-test:x:$user:$user::/var/tmp/home:/bin/bash" >>/etc/passwd
mkdir /var/tmp/home && chown "$user:$user" /var/tmp/home

# run_in GROUP WHO COMMAND...: each test binary by the command, in the group.
run_in() (
  echo "$BASHPID" >"$groups/$1/cgroup.procs"
  cd /var/tmp || exit
  for binary in /run/tests/bin/*; do
    echo "test binary $(basename "$binary") as $2"
    xargs -a /run/tests/arguments "${@:3}" "$binary"
  done
)

# Python writes what it has compiled to the directories of the system, once. On an installed one it is there.
python3 -c 'import asyncio, ctypes, fcntl, hashlib, mmap, multiprocessing.managers, random, resource
import select, shutil, signal, socket, struct, subprocess, threading' || exit

echo "kernel $(uname -r) $(uname -m)"
HOME=/root run_in "$session" root env
HOME=/var/tmp/home run_in "$manager/app.slice/test.scope" "an ordinary user" \
  setpriv --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all

echo o >/proc/sysrq-trigger # powers off, without a service manager that would
sleep 60
