// What a user without privileges can do to a process observer, as fast as one process can. The bench compares the CPU
// time that this costs the user with what it costs the daemon.
//
//   bench-attack KIND SECONDS DIRECTORY PROGRAM
//
// DIRECTORY holds the directories h0 to h63, and belongs to the user. PROGRAM is a small program to exec. Prints
// "ROUNDS NS": how often it did what KIND names, and the CPU time of all its processes. Exit code 0, or 1 with the
// failed call on stderr. Whatever it made is gone when it ends.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOMES 64
#define DIRECTORIES 10000
#define ANCESTORS 3500
#define ROOTS 127
#define SHELLS 256
#define LONG_ARGUMENT (120 * 1024)

extern char **environ;

static const char *program;
static char *long_argument;
static pid_t child;

static void fail(const char *what)
{
	fprintf(stderr, "bench-attack: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(int result, const char *what)
{
	if (result < 0)
		fail(what);
}

static double seconds(void)
{
	struct timespec at;
	check(clock_gettime(CLOCK_MONOTONIC, &at), "clock_gettime");
	return at.tv_sec + at.tv_nsec / 1e9;
}

static long long cpu_of(int who)
{
	struct rusage usage;
	check(getrusage(who, &usage), "getrusage");
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL
		+ (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0)
		if (errno != EINTR)
			fail("waitpid");
}

// A function of its own: what a vfork'd child does to its parent's frame must not reach the loop's.
static __attribute__((noinline)) pid_t start_in(const char *directory, char **argv)
{
	pid_t pid = vfork();
	if (pid == 0) {
		if (!directory || chdir(directory) == 0)
			execve(argv[0], argv, environ);
		_exit(127);
	}
	return pid;
}

static pid_t start(char **argv)
{
	return start_in(NULL, argv);
}

static void spawn(char *argument)
{
	char *argv[] = { (char *)program, argument, NULL };
	pid_t pid = start(argv);
	check(pid, "vfork");
	reap(pid);
}

static void do_fork(long round)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(round & 1);
	check(pid, "fork");
	reap(pid);
}

// What it starts is a session of h0 because this process is in no home.
static void do_exec(long round)
{
	char *argv[] = { (char *)program, round & 1 ? "one" : "other", NULL };
	pid_t pid = start_in("h0", argv);
	check(pid, "vfork");
	reap(pid);
}

static void do_argv(long round)
{
	(void)round;
	spawn(long_argument);
}

static void do_chdir(long round)
{
	char path[16];
	snprintf(path, sizeof path, "../h%ld", round % HOMES);
	check(chdir(path), "chdir to a home");
}

static void do_directories(long round)
{
	char path[24];
	snprintf(path, sizeof path, "../d%ld", round % DIRECTORIES);
	check(chdir(path), "chdir to a directory");
}

static void do_rename(long round)
{
	check(round & 1 ? rename("renamed", "name") : rename("name", "renamed"), "rename");
}

static void do_mkdir(long round)
{
	(void)round;
	check(mkdir("made", 0755), "mkdir");
	check(rmdir("made"), "rmdir");
}

static void do_prctl(long round)
{
	check(prctl(PR_SET_NAME, round & 1 ? "one" : "other"), "prctl");
}

static void do_setsid(long round)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(setsid() < 0 ? 2 : round & 1);
	check(pid, "fork");
	reap(pid);
}

static void do_setpgid(long round)
{
	// A process that leads its POSIX session cannot change its group; its child can.
	check(setpgid(child, round & 1 ? getpgrp() : 0), "setpgid");
}

static void do_setuid(long round)
{
	(void)round;
	check(setresuid(getuid(), getuid(), getuid()), "setresuid");
}

static void do_mount(long round)
{
	(void)round;
	check(mount("none", "mounted", "tmpfs", 0, "size=4k"), "mount");
	check(umount("mounted"), "umount");
}

static void do_signal(long round)
{
	check(kill(child, round & 1 ? SIGSTOP : SIGCONT), "kill");
}

static void *nothing(void *argument)
{
	return argument;
}

// Calls `round` for so long, and returns how often. The clock is not looked at for each call: that would be paid for by the
// attacker.
static long repeat(void (*round)(long), double for_seconds)
{
	double end = seconds() + for_seconds;
	long rounds = 0;
	do
		for (int few = 0; few < 16; few++)
			round(rounds++);
	while (seconds() < end);
	return rounds;
}

static void do_threads(long round)
{
	pthread_t thread;
	(void)round;
	errno = pthread_create(&thread, NULL, nothing, NULL);
	if (errno != 0)
		fail("pthread_create");
	errno = pthread_join(thread, NULL);
	if (errno != 0)
		fail("pthread_join");
}

// A child that waits.
static void with_child(void)
{
	pid_t parent = getpid();
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	check(child, "fork");
}

static void without_child(void)
{
	check(kill(child, SIGKILL), "kill");
	reap(child);
}

// Descriptors of the chain's processes: the last one closes the first when it runs, and ends with the second. The last one of
// a chain that attacks writes its rounds to the first.
#define READY 10
#define END 11

// Starts a process that has `depth` more below it. Each execs itself, because a process that only forks shares the
// pages of all its ancestors, which makes a long chain cost minutes.
static pid_t descend(char *what, int depth, char *seconds)
{
	char text[16];
	char *argv[] = { "/proc/self/exe", what, text, seconds, NULL };
	snprintf(text, sizeof text, "%d", depth);
	pid_t pid = start(argv);
	check(pid, "vfork");
	return pid;
}

static void in_no_home(void)
{
	check(chdir(".."), "chdir to no home");
}

// Starts programs beside others in one home, each of which could be the session. Returns how many.
static long beside_roots(char *seconds)
{
	pid_t roots[ROOTS];
	program = getenv("PROGRAM");
	for (int n = 0; n < ROOTS; n++) {
		roots[n] = fork();
		if (roots[n] == 0) {
			if (chdir("h0") == 0)
				pause();
			_exit(1);
		}
		check(roots[n], "fork");
	}
	// Who stays in a home for a second is a candidate there.
	sleep(2);
	long rounds = repeat(do_exec, atof(seconds));
	for (int n = 0; n < ROOTS; n++) {
		kill(roots[n], SIGKILL);
		reap(roots[n]);
	}
	return rounds;
}

static int descended(char *what, int depth, char *seconds)
{
	char byte;
	pid_t pid = depth > 0 ? descend(what, depth - 1, seconds) : 0;
	if (pid == 0 && strcmp(what, "below") == 0)
		dprintf(READY, "%ld", repeat(do_chdir, atof(seconds)));
	if (pid == 0 && strcmp(what, "beside") == 0)
		dprintf(READY, "%ld", beside_roots(seconds));
	close(READY);
	if (pid > 0)
		reap(pid);
	else
		while (read(END, &byte, 1) > 0)
			;
	return 0;
}

static void with_descendants(void)
{
	int ready[2], end[2];
	char byte;
	check(pipe(ready), "pipe");
	check(pipe2(end, O_CLOEXEC), "pipe");
	check(dup2(ready[1], READY), "dup2");
	check(dup2(end[0], END), "dup2");
	close(ready[1]);
	fcntl(ready[0], F_SETFD, FD_CLOEXEC);
	child = descend("descend", ANCESTORS - 1, "0");
	close(READY);
	while (read(ready[0], &byte, 1) > 0)
		;
}

// The innermost of a chain of so many attacks. Returns its rounds.
static long below_ancestors(char *what, int depth, char *seconds)
{
	int ready[2];
	char text[32] = "";
	size_t length = 0;
	ssize_t more;
	check(pipe2(ready, O_CLOEXEC), "pipe");
	check(dup2(ready[1], READY), "dup2");
	close(ready[1]);
	pid_t pid = descend(what, depth - 1, seconds);
	close(READY);
	while ((more = read(ready[0], text + length, sizeof text - 1 - length)) > 0)
		length += more;
	reap(pid);
	return atol(text);
}

static void without_descendants(void)
{
	closefrom(3);
	reap(child);
}

static void with_directories(void)
{
	char path[24];
	for (int n = 0; n < DIRECTORIES; n++) {
		snprintf(path, sizeof path, "../d%d", n);
		check(mkdir(path, 0755), "mkdir");
	}
}

static void without_directories(void)
{
	char path[24];
	check(chdir("../h0"), "chdir");
	for (int n = 0; n < DIRECTORIES; n++) {
		snprintf(path, sizeof path, "../d%d", n);
		check(rmdir(path), "rmdir");
	}
}

static void with_name(void)
{
	check(mkdir("name", 0755), "mkdir");
}

static void without_name(void)
{
	if (rmdir("name") < 0)
		check(rmdir("renamed"), "rmdir");
}

static void with_namespace(void)
{
	check(mkdir("mounted", 0755), "mkdir");
	char text[64];
	snprintf(text, sizeof text, "0 %d 1", getuid());
	check(unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare");
	int map = open("/proc/self/uid_map", O_WRONLY);
	check(map, "open uid_map");
	check(write(map, text, strlen(text)) < 0 ? -1 : 0, "write uid_map");
	close(map);
}

static void without_mounted(void)
{
	check(rmdir("mounted"), "rmdir");
}

static void with_long_argument(void)
{
	long_argument = malloc(LONG_ARGUMENT + 1);
	if (!long_argument)
		fail("malloc");
	memset(long_argument, 'x', LONG_ARGUMENT);
	long_argument[LONG_ARGUMENT] = 0;
}

static const struct {
	const char *kind;
	void (*prepare)(void);
	void (*round)(long);
	void (*clean)(void);
} ATTACKS[] = {
	{ "fork", NULL, do_fork, NULL },
	{ "exec", in_no_home, do_exec, NULL },
	{ "argv", with_long_argument, do_argv, NULL },
	{ "chdir", NULL, do_chdir, NULL },
	{ "directories", with_directories, do_directories, without_directories },
	{ "descendants", with_descendants, do_chdir, without_descendants },
	{ "rename", with_name, do_rename, without_name },
	{ "mkdir", NULL, do_mkdir, NULL },
	{ "prctl", NULL, do_prctl, NULL },
	{ "setsid", NULL, do_setsid, NULL },
	{ "setpgid", with_child, do_setpgid, without_child },
	{ "setuid", NULL, do_setuid, NULL },
	{ "mount", with_namespace, do_mount, without_mounted },
	{ "signal", with_child, do_signal, without_child },
	{ "threads", NULL, do_threads, NULL },
};

static void report(long rounds)
{
	printf("%ld %lld\n", rounds, cpu_of(RUSAGE_SELF) + cpu_of(RUSAGE_CHILDREN));
}

int main(int argc, char **argv)
{
	if (argc == 4)
		return descended(argv[1], atoi(argv[2]), argv[3]);
	if (argc != 5) {
		fprintf(stderr, "bench-attack: see the head of attack.c for its arguments\n");
		return 1;
	}
	program = argv[4];
	check(chdir(argv[3]), "chdir");
	check(chdir("h0"), "chdir to h0");
	if (strcmp(argv[1], "ancestry") == 0) {
		report(below_ancestors("below", ANCESTORS, argv[2]));
		return 0;
	}
	if (strcmp(argv[1], "roots") == 0) {
		in_no_home();
		check(setenv("PROGRAM", program, 1), "setenv");
		report(below_ancestors("beside", SHELLS, argv[2]));
		return 0;
	}
	for (size_t n = 0; n < sizeof ATTACKS / sizeof *ATTACKS; n++) {
		if (strcmp(ATTACKS[n].kind, argv[1]) != 0)
			continue;
		if (ATTACKS[n].prepare)
			ATTACKS[n].prepare();
		long rounds = repeat(ATTACKS[n].round, atof(argv[2]));
		if (ATTACKS[n].clean)
			ATTACKS[n].clean();
		report(rounds);
		return 0;
	}
	fprintf(stderr, "bench-attack: %s is none of its kinds\n", argv[1]);
	return 1;
}
