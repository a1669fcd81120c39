// Attempts to do what a sandbox must prevent, one per name: probes NAME [ARGUMENT...]
// Prints "ok" (and what it got) when the attempt worked, else "errno N". Exit code 0 either way.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef AF_VSOCK
#define AF_VSOCK 40
#endif

static int say(long r) {
  if (r < 0) printf("errno %d\n", errno); else printf("ok\n");
  return 0;
}
static int show(const char *path) {
  char b[4096];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return say(-1);
  ssize_t n = read(fd, b, sizeof b - 1);
  if (n < 0) return say(-1);
  printf("ok ");
  fwrite(b, 1, n, stdout);
  printf("\n");
  return 0;
}
static int unix_connect(const char *path, int abstract) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  socklen_t len;
  if (abstract) {
    strncpy(a.sun_path + 1, path, sizeof a.sun_path - 2);
    len = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(path);
  } else {
    strncpy(a.sun_path, path, sizeof a.sun_path - 1);
    len = sizeof a;
  }
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  if (s < 0) return say(-1);
  return say(connect(s, (void *)&a, len));
}
static int inet_reach(int type, int port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int s = socket(AF_INET, type, 0);
  if (s < 0) return say(-1);
  if (connect(s, (void *)&a, sizeof a) < 0) return say(-1);
  return say(send(s, "hi", 2, 0));
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";
  long num = atol(arg);
#define IS(n) (!strcmp(name, n))
  // Files.
  if (IS("read")) return show(arg);
  if (IS("write")) { int fd = open(arg, O_WRONLY | O_TRUNC); return say(fd < 0 ? -1 : write(fd, "escaped", 7)); }
  if (IS("create")) return say(open(arg, O_WRONLY | O_CREAT, 0644));
  if (IS("unlink")) return say(unlink(arg));
  if (IS("chmod")) return say(chmod(arg, 0777));
  if (IS("utime")) { struct timeval t[2] = {{1, 0}, {1, 0}}; return say(utimes(arg, t)); }
  if (IS("link")) return say(link(arg, argv[3]));
  if (IS("rename")) return say(rename(arg, argv[3]));
  if (IS("stat")) { struct stat st; return say(stat(arg, &st)); }
  if (IS("move-out")) { close(open(arg, O_WRONLY | O_CREAT, 0644)); return say(rename(arg, argv[3])); }
  if (IS("symlink-read")) { unlink(argv[3]); if (symlink(arg, argv[3])) return say(-1); return show(argv[3]); }
  if (IS("dotdot-read")) {
    char p[8192] = "";
    for (int i = 0; i < 40; i++) strcat(p, "../");
    strcat(p, arg[0] == '/' ? arg + 1 : arg);
    return show(p);
  }
  if (IS("flock")) { int fd = open(arg, O_RDWR); return say(fd < 0 ? -1 : flock(fd, LOCK_EX | LOCK_NB)); }
  if (IS("handle")) {
    struct file_handle *h = calloc(1, sizeof *h + 128);
    int m;
    h->handle_bytes = 128;
    if (name_to_handle_at(AT_FDCWD, ".", h, &m, 0) < 0) return say(-1);
    return say(open_by_handle_at(open(".", O_RDONLY), h, O_RDONLY));
  }
  if (IS("rewrite-sysctl")) {
    char b[64];
    int fd = open(arg, O_RDWR);
    if (fd < 0) return say(-1);
    ssize_t n = read(fd, b, sizeof b);
    lseek(fd, 0, SEEK_SET);
    return say(write(fd, b, n));
  }
  if (IS("fds")) {
    int extra = 0;
    for (int fd = 3; fd < 1024; fd++) {
      char b[64];
      if (fcntl(fd, F_GETFD) < 0) continue;
      extra++;
      ssize_t n = pread(fd, b, sizeof b, 0);
      if (n > 0) { printf("ok "); fwrite(b, 1, n, stdout); printf("\n"); }
    }
    printf("extra %d\n", extra);
    return 0;
  }
  if (IS("setuid")) { printf("euid %d\n", (int)geteuid()); return 0; }
  if (IS("setuid0")) return say(setuid(0));
  if (IS("mknod")) return say(mknod(arg, S_IFCHR | 0666, makedev(1, 3)));
  if (IS("memfd-read")) {
    char b[1 << 16];
    ssize_t n;
    int in = open("/proc/self/exe", O_RDONLY), m = memfd_create("x", 0);
    while ((n = read(in, b, sizeof b)) > 0) if (write(m, b, n) != n) return say(-1);
    char *args[] = {"probes", "read", argv[2], NULL}, *env[] = {NULL};
    fexecve(m, args, env);
    return say(-1);
  }
  // Processes.
  if (IS("kill")) return say(kill(num, SIGKILL));
  if (IS("ptrace")) { long r = ptrace(PTRACE_ATTACH, num, 0, 0); if (!r) { waitpid(num, 0, __WALL); ptrace(PTRACE_DETACH, num, 0, 0); } return say(r); }
  if (IS("process_vm")) {
    char b[8];
    struct iovec l = {b, 8}, r = {(void *)strtoul(argv[3], 0, 16), 8};
    return say(process_vm_readv(num, &l, 1, &r, 1, 0));
  }
  if (IS("pidfd_getfd")) { int p = syscall(SYS_pidfd_open, num, 0); return say(p < 0 ? -1 : syscall(SYS_pidfd_getfd, p, 0, 0)); }
  if (IS("priority")) return say(syscall(SYS_setpriority, 0, num, 19));
  if (IS("see-all")) {
    int n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) if (atoi(e->d_name) > 0) n++;
    printf("seen %d\n", n);
    return 0;
  }
  if (IS("signal-as-thread")) return say(syscall(SYS_tkill, num, SIGKILL));
  if (IS("pidfd-kill")) { int p = syscall(SYS_pidfd_open, num, 0); return say(p < 0 ? -1 : syscall(SYS_pidfd_send_signal, p, SIGKILL, 0, 0)); }
  if (IS("sched")) { unsigned long mask = 1; return say(syscall(SYS_sched_setaffinity, num, sizeof mask, &mask)); }
  if (IS("prlimit")) { struct { unsigned long a, b; } l = {64, 64}; return say(syscall(SYS_prlimit64, num, 7, &l, 0)); }
  if (IS("double-fork")) {
    // A grandchild in a session of its own, that writes after its parents are gone.
    if (fork() == 0) {
      setsid();
      if (fork() == 0) {
        for (int fd = 0; fd < 64; fd++) close(fd);
        usleep(atoi(argv[3]) * 1000);
        int fd = open(arg, O_WRONLY | O_CREAT, 0666);
        if (fd >= 0 && write(fd, "alive", 5) == 5) close(fd);
        _exit(0);
      }
      _exit(0);
    }
    printf("started\n");
    return 0;
  }
  // Network.
  if (IS("tcp")) return inet_reach(SOCK_STREAM, num);
  if (IS("udp")) return inet_reach(SOCK_DGRAM, num);
  if (IS("unix")) return unix_connect(arg, 0);
  if (IS("abstract")) return unix_connect(arg, 1);
  if (IS("raw")) return say(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
  if (IS("netlink")) return say(socket(AF_NETLINK, SOCK_RAW, 0));
  if (IS("packet")) return say(socket(AF_PACKET, SOCK_RAW, 0));
  if (IS("vsock")) return say(socket(AF_VSOCK, SOCK_STREAM, 0));
  if (IS("inet-pair")) { int v[2]; return say(socketpair(AF_INET, SOCK_STREAM, 0, v)); }
  // Kernel surface.
  if (IS("io_uring")) { char p[256] = {0}; return say(syscall(SYS_io_uring_setup, 4, p)); }
  if (IS("bpf")) { char a[128] = {0}; *(int *)a = 2; ((int *)a)[1] = 4; ((int *)a)[2] = 4; ((int *)a)[3] = 1; return say(syscall(SYS_bpf, 0, a, 128)); }
  if (IS("perf")) { char a[128] = {0}; *(int *)a = 1; ((int *)a)[1] = 112; return say(syscall(SYS_perf_event_open, a, 0, -1, -1, 0)); }
  if (IS("keyctl")) return say(syscall(SYS_add_key, "user", "agent-runtime-probe", "x", 1, KEY_SPEC_PROCESS_KEYRING));
  if (IS("userfaultfd")) return say(syscall(SYS_userfaultfd, 0));
  if (IS("unshare-user")) return say(unshare(CLONE_NEWUSER));
  if (IS("unshare-net")) return say(unshare(CLONE_NEWUSER | CLONE_NEWNET));
  if (IS("clone-user")) { long r = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0); if (r == 0) _exit(0); return say(r); }
  if (IS("clone3-user")) {
    unsigned long a[11] = {CLONE_NEWUSER};
    a[4] = SIGCHLD;
    long r = syscall(SYS_clone3, a, 64);
    if (r == 0) _exit(0);
    return say(r);
  }
  if (IS("setns")) { int fd = open("/proc/self/ns/ipc", O_RDONLY); return say(fd < 0 ? -1 : setns(fd, CLONE_NEWIPC)); }
  if (IS("mount")) return say(mount("none", arg, "tmpfs", 0, 0));
  if (IS("umount")) return say(umount2(arg, MNT_DETACH));
  if (IS("open_tree")) return say(syscall(SYS_open_tree, AT_FDCWD, ".", 1));
  if (IS("fsopen")) return say(syscall(SYS_fsopen, "tmpfs", 0));
  if (IS("chroot")) return say(chroot("."));
  if (IS("personality")) return say(syscall(SYS_personality, 0x0040000));
  if (IS("hostname")) { char b[65]; gethostname(b, 65); return say(sethostname(b, strlen(b))); }
  if (IS("tiocsti")) { char ch = 'x'; return say(syscall(SYS_ioctl, 0, 0x5412UL | (unsigned long)num << 32, &ch)); }
#ifdef __x86_64__
  if (IS("x32")) return say(syscall(0x40000000 | 39));
  if (IS("int80")) { long r = 20; __asm__ volatile("int $0x80" : "+a"(r)::"memory"); printf("ok %ld\n", r); return 0; }
#endif
  // Resources.
  if (IS("fork-bomb")) {
    setpgid(0, 0);
    int made = 0;
    for (int i = 0; i < num; i++) {
      pid_t p = fork();
      if (p == 0) { pause(); _exit(0); }
      if (p > 0) made++;
    }
    signal(SIGTERM, SIG_IGN);
    printf("made %d\n", made);
    fflush(stdout);
    if (made) kill(0, SIGTERM);
    return 0;
  }
  if (IS("memory-bomb")) {
    long got = 0;
    for (; got < num; got += 16) {
      char *p = mmap(0, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) break;
      memset(p, 1, 16 << 20);
    }
    printf("got %ld\n", got);
    return 0;
  }
  if (IS("disk-bomb")) {
    static char b[1 << 20];
    long got = 0;
    int fd = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    signal(SIGXFSZ, SIG_IGN);
    for (; got < num && write(fd, b, sizeof b) == (ssize_t)sizeof b; got++);
    unlink(argv[3]);
    printf("got %ld\n", got);
    return 0;
  }
  if (IS("inode-bomb")) {
    long got = 0;
    char p[4096];
    for (; got < num; got++) {
      snprintf(p, sizeof p, "%s/%ld", argv[3], got);
      int fd = open(p, O_WRONLY | O_CREAT, 0600);
      if (fd < 0) break;
      close(fd);
    }
    printf("got %ld\n", got);
    return 0;
  }
  if (IS("fd-bomb")) {
    long got = 0;
    while (got < num && open("/dev/null", O_RDONLY) >= 0) got++;
    printf("got %ld\n", got);
    return 0;
  }
  fprintf(stderr, "no probe %s\n", name);
  return 2;
}
