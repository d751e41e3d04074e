/* What parking alone costs: runs a command whose calls are parked as `observe` parks them, with a
 * listener that reads nothing and lets each of them go on. No supervisor can cost less.
 *
 *   floor changes|all PROGRAM [ARGUMENT...]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

/* Linux 6.6 */
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#define SYNC_WAKE_UP 1UL

/* Calls that `observe: "changes"` parks whatever their arguments, as far as the jobs make them. */
static const int parked[] = {
	SYS_mkdirat, SYS_symlinkat, SYS_linkat, SYS_renameat2, SYS_unlinkat, SYS_fchmod, SYS_fchmodat,
	SYS_utimensat, SYS_execve, SYS_exit_group, SYS_connect, SYS_bind,
#ifdef __x86_64__
	SYS_mkdir, SYS_symlink, SYS_link, SYS_rename, SYS_unlink, SYS_rmdir, SYS_chmod,
#endif
};
#define CALLS (sizeof(parked) / sizeof(parked[0]))

static void fail(const char *what)
{
	perror(what);
	exit(125);
}

/* The listener of a filter that this process, and all that it starts, has from now on. */
static int park(int reads_too)
{
	struct sock_filter code[2 * CALLS + 6];
	unsigned short length = 0;
	const struct sock_filter notify = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	const int writes = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;

	code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						      offsetof(struct seccomp_data, nr));
	for (size_t call = 0; call < CALLS; call++) {
		code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							      parked[call], 0, 1);
		code[length++] = notify;
	}
	code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3);
	code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						      offsetof(struct seccomp_data, args[2]));
	code[length++] = reads_too
		? (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_PATH, 1, 0)
		: (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, writes, 0, 1);
	code[length++] = notify;
	code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);

	struct sock_fprog program = { .len = length, .filter = code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fail("PR_SET_NO_NEW_PRIVS");
	int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			       SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	if (listener < 0)
		fail("seccomp");
	return listener;
}

/* Lets calls go on until nobody is left to make any. */
static void *let_pass(void *argument)
{
	int listener = *(int *)argument;
	struct pollfd ready = { .fd = listener, .events = POLLIN };

	/* An older kernel refuses it, and is slower. */
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP);
	while (poll(&ready, 1, -1) == 1 && !(ready.revents & POLLHUP)) {
		struct seccomp_notif call = { 0 };
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0)
			continue; /* killed meanwhile */
		struct seccomp_notif_resp answer = {
			.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE,
		};
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	return NULL;
}

static void send_fd(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1,
				  .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	if (sendmsg(socket, &message, 0) != 1)
		fail("sendmsg");
}

static int receive_fd(int socket)
{
	int fd;
	char byte, control[CMSG_SPACE(sizeof(fd))];
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1,
				  .msg_control = control, .msg_controllen = sizeof(control) };
	if (recvmsg(socket, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
		fail("recvmsg");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

int main(int count, char **arguments)
{
	int sockets[2], status, listener;
	pthread_t thread;

	if (count < 3 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
		return 125;
	pid_t child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		listener = park(strcmp(arguments[1], "all") == 0);
		send_fd(sockets[1], listener);
		close(listener);
		execvp(arguments[2], arguments + 2);
		_exit(127);
	}
	listener = receive_fd(sockets[0]);
	if (pthread_create(&thread, NULL, let_pass, &listener) != 0)
		fail("pthread_create");
	if (waitpid(child, &status, 0) != child)
		fail("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
