/*
 * The limit of a listing: opens and reads what `handover ls --json` has to know of each function, and nothing else.
 * No parsing, no names, no output but a count. With a second argument it looks at open files of processes as well.
 *
 *     limit ROOT [holders]
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char buffer[1 << 16];
static unsigned long count;

static void look(int dir, const char *name)
{
	int file = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (file < 0)
		return;
	while ((got = read(file, buffer, sizeof(buffer))) > 0)
		count += got;
	close(file);
}

static void follow(int dir, const char *name)
{
	ssize_t got = readlinkat(dir, name, buffer, sizeof(buffer));

	if (got > 0)
		count += got;
}

static int enter(int dir, const char *name)
{
	return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Calls `act` for each name in a directory, and closes it. */
static void each(int dir, void (*act)(int dir, const char *name))
{
	DIR *list = dir < 0 ? NULL : fdopendir(dir);
	struct dirent *entry;

	if (!list)
		return;
	while ((entry = readdir(list)))
		if (entry->d_name[0] != '.')
			act(dir, entry->d_name);
	closedir(list);
}

static void function(int devices, const char *name)
{
	static const char *const files[] = { "modalias", "revision", "numa_node" };
	static const char *const links[] = { "driver", "iommu_group" };
	int dir;

	follow(devices, name);
	dir = openat(devices, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		look(dir, files[i]);
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		follow(dir, links[i]);
	close(dir);
}

static void process(int proc, const char *name)
{
	int dir;

	if (name[0] < '1' || name[0] > '9')
		return;
	dir = openat(proc, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return;
	each(enter(dir, "fd"), follow);
	look(dir, "maps");
	close(dir);
}

int main(int argc, char **argv)
{
	int root = argc > 1 ? enter(AT_FDCWD, argv[1]) : -1;

	if (root < 0) {
		fprintf(stderr, "usage: limit ROOT [holders]\n");
		return 1;
	}
	each(enter(root, "sys/bus/pci/devices"), function);
	each(enter(root, "sys/dev/char"), follow);
	each(enter(root, "sys/dev/block"), follow);
	each(enter(root, "sys/class/net"), follow);
	look(root, "usr/share/misc/pci.ids");
	if (argc > 2)
		each(enter(root, "proc"), process);
	printf("%lu\n", count);
	return 0;
}
