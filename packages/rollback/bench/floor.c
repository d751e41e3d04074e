/* What the kernel's own work costs in a second tree: opens every file, makes another and fills it, in as many
 * threads as the walk of `copy` and `reflink` has. There are no attributes, no list and no checks. No strategy
 * that keeps a second tree can cost less.
 *
 *   floor share|bytes SOURCE TARGET
 *
 * SOURCE has files in directories and nothing else; TARGET is not there yet.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>

static int source, target;
static int shares;
static char **names;
static size_t count;
static atomic_size_t next;

static int directory(int in, const char *name)
{
	int fd = openat(in, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		err(1, "%s", name);
	return fd;
}

static void fill(int from, int to, char *buffer, size_t size, const char *name)
{
	ssize_t length;

	if (shares) {
		if (ioctl(to, FICLONE, from) != 0)
			err(errno == EOPNOTSUPP ? EX_UNAVAILABLE : 1, "FICLONE %s", name);
		return;
	}
	while ((length = read(from, buffer, size)) > 0)
		if (write(to, buffer, length) != length)
			err(1, "write %s", name);
	if (length < 0)
		err(1, "read %s", name);
}

static void copy(const char *name, char *buffer, size_t size)
{
	if (mkdirat(target, name, 0700) != 0)
		err(1, "mkdir %s", name);
	int in = directory(source, name), out = directory(target, name);
	DIR *list = fdopendir(in);

	for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
		if (entry->d_type != DT_REG)
			continue;
		int from = openat(in, entry->d_name, O_RDONLY | O_CLOEXEC);
		int to = openat(out, entry->d_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

		if (from < 0 || to < 0)
			err(1, "open %s", entry->d_name);
		fill(from, to, buffer, size, entry->d_name);
		close(from);
		close(to);
	}
	closedir(list);
	close(out);
}

static void *work(void *nothing)
{
	const size_t size = 256 << 10;
	char *buffer = malloc(size);

	for (size_t number; (number = next++) < count;)
		copy(names[number], buffer, size);
	free(buffer);
	return nothing;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		errx(2, "floor share|bytes SOURCE TARGET");
	shares = strcmp(argv[1], "share") == 0;
	source = directory(AT_FDCWD, argv[2]);
	if (mkdir(argv[3], 0700) != 0)
		err(1, "mkdir %s", argv[3]);
	target = directory(AT_FDCWD, argv[3]);

	DIR *list = fdopendir(dup(source));
	for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		names = realloc(names, (count + 1) * sizeof(*names));
		names[count++] = strdup(entry->d_name);
	}
	closedir(list);

	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	long threads = cpus < 2 ? 2 : cpus > 8 ? 8 : cpus;
	pthread_t others[8];
	for (long number = 1; number < threads; number++)
		if (pthread_create(&others[number], NULL, work, NULL) != 0)
			errx(1, "pthread_create");
	work(NULL);
	for (long number = 1; number < threads; number++)
		pthread_join(others[number], NULL);
	return 0;
}
