// What the bench makes the kernel do. Static and small, so that what is measured is the kernel's work and the
// observers', not a runtime's. Each loop is timed by itself, without its own start and end.
//
//   bench-load spawn N PROGRAM [ARGUMENT...]   vfork, exec and wait, N times              prints ns
//   bench-load fork N PROGRAM [ARGUMENT...]    the same by fork                           prints ns
//   bench-load threads N                       pthread_create and join, N times           prints ns
//   bench-load getppid N                       the system call, N times                   prints ns
//   bench-load processes N                     N processes that sleep until stdin ends    prints "ready"
//   bench-load sleeping-threads N              N threads that sleep until stdin ends      prints "ready"
//   bench-load session                         prints "ready"; then for each directory on a line of stdin
//                                              "T0 T1": CLOCK_BOOTTIME around the chdir, ns
//
// Exit code 0, or 1 with the failed call on stderr. Whatever it made is gone when it ends.

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// What tiny.c exits with, under whatever name that begins with bench-.
#define TINY_CODE 7

extern char **environ;

static void fail(const char *what)
{
	fprintf(stderr, "bench-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now(clockid_t clock)
{
	struct timespec at;
	if (clock_gettime(clock, &at) != 0)
		fail("clock_gettime");
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void reap(pid_t pid, int tiny)
{
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != (tiny ? TINY_CODE : 0)) {
		errno = ECHILD;
		fail("the spawned program did not run or ended otherwise than it should");
	}
}

// A function of its own: what a vfork'd child does to its parent's frame must not reach the loop's.
static __attribute__((noinline)) pid_t start(char **argv, int by_fork)
{
	pid_t pid = by_fork ? fork() : vfork();
	if (pid == 0) {
		execve(argv[0], argv, environ);
		_exit(127);
	}
	return pid;
}

static void spawn(long count, char **argv, int by_fork)
{
	const char *slash = strrchr(argv[0], '/');
	int tiny = strncmp(slash ? slash + 1 : argv[0], "bench-", 6) == 0;
	for (long i = 0; i < count; i++) {
		pid_t pid = start(argv, by_fork);
		if (pid < 0)
			fail("fork");
		reap(pid, tiny);
	}
}

static void *nothing(void *argument)
{
	return argument;
}

static void *sleep_for_ever(void *argument)
{
	for (;;)
		pause();
	return argument;
}

static void threads(long count, void *(*body)(void *), int join)
{
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	if (pthread_attr_setstacksize(&attributes, 64 * 1024) != 0)
		fail("pthread_attr_setstacksize");
	for (long i = 0; i < count; i++) {
		pthread_t thread;
		errno = pthread_create(&thread, &attributes, body, NULL);
		if (errno != 0)
			fail("pthread_create");
		if (join && (errno = pthread_join(thread, NULL)) != 0)
			fail("pthread_join");
	}
}

static void until_stdin_ends(void)
{
	char byte;
	printf("ready\n");
	while (read(0, &byte, 1) > 0)
		;
}

static void processes(long count)
{
	pid_t *pids = calloc(count, sizeof *pids);
	pid_t parent = getpid();
	long made = 0;
	if (!pids)
		fail("calloc");
	for (; made < count; made++) {
		pid_t pid = fork();
		if (pid == 0) {
			// They end with their parent, however that ends.
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(0);
			sleep_for_ever(NULL);
		}
		if (pid < 0)
			break;
		pids[made] = pid;
	}
	int error = errno;
	if (made == count)
		until_stdin_ends();
	for (long i = 0; i < made; i++)
		kill(pids[i], SIGKILL);
	for (long i = 0; i < made; i++)
		waitpid(pids[i], NULL, 0);
	if (made < count) {
		errno = error;
		fail("fork");
	}
}

static void session(void)
{
	char line[4200];
	printf("ready\n");
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		long long before = now(CLOCK_BOOTTIME);
		if (chdir(line) != 0)
			fail("chdir");
		printf("%lld %lld\n", before, now(CLOCK_BOOTTIME));
	}
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	long count = argc > 2 ? atol(argv[2]) : 0;
	int program = argc > 3;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(verb, "session") == 0) {
		session();
		return 0;
	}
	if (count > 0 && strcmp(verb, "processes") == 0) {
		processes(count);
		return 0;
	}
	long long began = now(CLOCK_MONOTONIC);
	if (count > 0 && program && strcmp(verb, "spawn") == 0)
		spawn(count, argv + 3, 0);
	else if (count > 0 && program && strcmp(verb, "fork") == 0)
		spawn(count, argv + 3, 1);
	else if (count > 0 && strcmp(verb, "threads") == 0)
		threads(count, nothing, 1);
	else if (count > 0 && strcmp(verb, "getppid") == 0)
		for (long i = 0; i < count; i++)
			syscall(SYS_getppid);
	else if (count > 0 && strcmp(verb, "sleeping-threads") == 0) {
		threads(count, sleep_for_ever, 0);
		until_stdin_ends();
		return 0;
	} else {
		fprintf(stderr, "bench-load: see the head of load.c for what it can do\n");
		return 1;
	}
	printf("%lld\n", now(CLOCK_MONOTONIC) - began);
	return 0;
}
