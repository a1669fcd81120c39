// Programs that use too much of one thing. Each tells on standard output how far it came.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define IS(w) (!strcmp(what, w))

static void nap(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) && errno == EINTR) {}
}

static char *take(long mib, int flags) {
  char *p = mmap(0, mib << 20, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
  if (p != MAP_FAILED) memset(p, 1, mib << 20);
  return p;
}

static void burn(long ms) {
  struct timespec t;
  do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  while (t.tv_sec * 1000 + t.tv_nsec / 1000000 < ms);
}

static void told(const char *word, long n) { printf("%s %ld\n", word, n); fflush(stdout); }

static void *idle(void *unused) { pause(); return unused; }

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  long a = argc > 2 ? atol(argv[2]) : 0, b = argc > 3 ? atol(argv[3]) : 0;
  const char *path = argc > 4 ? argv[4] : ".";

  // b processes that take a MiB each, and keep it for a while.
  if (IS("memory")) {
    for (long i = 0; i < b; i++)
      if (fork() == 0) { take(a, MAP_PRIVATE); nap(700); _exit(0); }
    while (wait(0) > 0) {}
    told("taken", a * b);
    return 0;
  }
  // a MiB that b children only look at: they are there once.
  if (IS("memory-shared")) {
    take(a, MAP_PRIVATE);
    for (long i = 0; i < b; i++)
      if (fork() == 0) { nap(700); _exit(0); }
    while (wait(0) > 0) {}
    told("shared", a);
    return 0;
  }
  // Pieces of 16 MiB until there is no more address space; then fails as programs do.
  if (IS("addresses")) {
    for (;;)
      if (take(16, MAP_PRIVATE) == MAP_FAILED) { nap(200); return 1; }
  }
  // a MiB that belong to no process: System V shared memory in pieces, none attached.
  if (IS("shm")) {
    long got = 0;
    for (; got < a; got++) {
      int id = shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600);
      char *p = id < 0 ? (void *)-1 : shmat(id, 0, 0);
      if (p == (void *)-1) break;
      memset(p, 1, 1 << 20);
      shmdt(p);
      if (b) shmctl(id, IPC_RMID, 0);
    }
    told("got", got);
    return 0;
  }
  if (IS("shm-small")) {
    int id = shmget(IPC_PRIVATE, 56, IPC_CREAT | 0600);
    char *p = id < 0 ? (void *)-1 : shmat(id, 0, 0);
    told("ok", p != (void *)-1);
    return p == (void *)-1;
  }
  if (IS("memfd")) {
    static char piece[1 << 20];
    long got = 0;
    int fd = memfd_create("x", 0);
    for (; fd >= 0 && got < a && write(fd, piece, sizeof piece) == (ssize_t)sizeof piece; got++) {}
    told("got", got);
    return 0;
  }
  if (IS("cpu-alone")) { burn(a); return 0; }
  // b processes that each compute for a ms, at once.
  if (IS("cpu")) {
    for (long i = 0; i < b; i++)
      if (fork() == 0) { burn(a); _exit(0); }
    while (wait(0) > 0) {}
    told("computed", a * b);
    return 0;
  }
  // The same one after the other, and nobody waits for them, so that nobody inherits their time.
  if (IS("cpu-unwaited")) {
    signal(SIGCHLD, SIG_IGN);
    for (long i = 0; i < b; i++) {
      if (fork() == 0) { burn(a); _exit(0); }
      while (wait(0) > 0) {}
    }
    told("computed", a * b);
    return 0;
  }
  // Up to a processes, kept for a while.
  if (IS("forks")) {
    long made = 0;
    for (; made < a; made++) {
      pid_t p = fork();
      if (p == 0) { nap(500); _exit(0); }
      if (p < 0) break;
    }
    told("made", made);
    while (wait(0) > 0) {}
    return made < a;
  }
  if (IS("threads")) {
    long made = 0;
    pthread_t t;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (; made < a; made++)
      if (pthread_create(&t, &small, idle, 0)) break;
    told("made", made);
    nap(200);
    return made < a;
  }
  if (IS("files-open")) {
    long got = 0;
    while (got < a && open("/dev/null", O_RDONLY) >= 0) got++;
    told("got", got);
    nap(200);
    return got < a;
  }
  // a files of b KiB below a directory, one every few ms.
  if (IS("fill")) {
    char name[4096];
    static char piece[1 << 20];
    memset(piece, 1, sizeof piece);
    long made = 0;
    for (; made < a; made++) {
      snprintf(name, sizeof name, "%s/f%ld", path, made);
      int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
      if (fd < 0) break;
      long rest = b;
      for (; rest > 0 && write(fd, piece, 1024) == 1024; rest--) {}
      close(fd);
      if (rest > 0) break;
      nap(argc > 5 ? atol(argv[5]) : 0);
    }
    told("filled", made);
    return made < a;
  }
  // Forks for ever; nothing of it can be waited for or told to stop.
  if (IS("fork-for-ever")) {
    signal(SIGTERM, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    for (;;) fork();
  }
  if (IS("memory-for-ever")) {
    for (;;) if (take(16, MAP_PRIVATE) == MAP_FAILED) nap(1);
  }
  fprintf(stderr, "no bomb %s\n", what);
  return 2;
}
