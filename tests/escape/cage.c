// Starts a program under the conditions of a room: cage MODE UID PROGRAM [ARGUMENT...]
// MODE: plain; noproc (a part of /proc is covered, as container engines do, so that no fresh /proc
// can be mounted); nouserns (no new user namespace, as under Docker's default profile).
// UID: 0 stays root; another one drops every group, capability and the bounding set.
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void must(int ok, const char *what) {
  if (!ok) { fprintf(stderr, "cage: %s: %s\n", what, strerror(errno)); _exit(125); }
}

int main(int argc, char **argv) {
  must(argc > 3, "usage");
  if (!strcmp(argv[1], "noproc")) {
    must(!unshare(CLONE_NEWNS), "new mount namespace");
    must(!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
    const char *parts[] = {"/proc/irq", "/proc/fs", "/proc/driver", NULL};
    int covered = 0;
    for (const char **p = parts; *p; p++) covered += !mount("none", *p, "tmpfs", MS_RDONLY, "size=4k");
    must(covered > 0, "cover a part of /proc");
  } else if (!strcmp(argv[1], "nouserns")) {
    struct sock_filter f[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone3, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_unshare, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER, 1, 2),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof f / sizeof *f, f};
    must(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
    must(unshare(CLONE_NEWUSER) < 0, "a user namespace can still be made");
  } else {
    must(!strcmp(argv[1], "plain"), "unknown mode");
  }
  int uid = atoi(argv[2]);
  if (uid) {
    must(!setgroups(0, NULL), "drop groups");
    for (int c = 0; c < 64; c++) prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
    must(!setresgid(uid, uid, uid) && !setresuid(uid, uid, uid), "change user");
  }
  execv(argv[3], argv + 3);
  must(0, argv[3]);
}
