/* A disk and a clock that do as the test says. Loaded into the daemon with LD_PRELOAD.
 *
 * Every write to a file below SHIM_ROOT is appended to SHIM_LOG, and so is every fsync, in the order
 * in which they took effect; a test replays that log and leaves out what was not synced. Through the
 * page SHIM_CONTROL, which is shared, a test makes writes and fsyncs fail and moves the wall clock
 * while the daemon runs. Nothing here changes what a call does as long as nothing is told.
 *
 * One lock covers a call and its record, so that the log is an order that really was. Two calls that
 * overlap have no order of their own; the record of a sync comes after the sync.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile int32_t write_errno; /* 0: works */
    volatile int32_t sync_errno;
    volatile int32_t targets;     /* 1: the database and its log; 2: the checkpoints; 4: the rest */
    volatile int32_t times;       /* so many calls fail; below 0: all of them */
    volatile int64_t clock_micros; /* added to the wall clock */
    volatile int64_t failed;      /* calls that were made to fail */
    volatile int32_t read_errno;
};

static struct control nothing;
static struct control *control = &nothing;
static char root[4096];
static size_t root_len;
static int log_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_CONTROL");
    if (path) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
        void *page = fd < 0 ? MAP_FAILED : mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED) abort();
        control = page;
        close(fd);
    }
    path = getenv("SHIM_LOG");
    if (path) {
        log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (log_fd < 0) abort();
    }
    path = getenv("SHIM_ROOT");
    if (path && realpath(path, root)) root_len = strlen(root);
}

/* Whether a path is ours, and the length of what comes before its name below the root. */
static const char *below(const char *path) {
    if (!root_len || strncmp(path, root, root_len) || path[root_len] != '/') return 0;
    const char *name = path + root_len + 1;
    size_t len = strlen(name);
    if (!strncmp(name, "workspaces", 10) || !strncmp(name, "filler", 6)) return 0;
    if (len > 4 && !strcmp(name + len - 4, "-shm")) return 0; /* never read after a power loss */
    return name;
}

static const char *name_of(int fd, char *buffer, size_t size) {
    if (!root_len) return 0;
    char link[48];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, buffer, size - 1);
    if (len <= 0) return 0;
    buffer[len] = 0;
    if (len == (ssize_t)root_len && !memcmp(buffer, root, len)) return "";
    return below(buffer);
}

static int target_of(const char *name) {
    if (!strncmp(name, "agent-runtime.db", 16)) return 1;
    if (strstr(name, "checkpoints")) return 2;
    return 4;
}

/* Whether this call has to fail. */
static int fails(const char *name, int32_t code) {
    if (!code || !(control->targets & target_of(name)) || control->times == 0) return 0;
    if (control->times > 0) control->times--;
    control->failed++;
    errno = code;
    return 1;
}

static void put(char op, const char *name, int64_t offset, const void *data, uint32_t len) {
    if (log_fd < 0) return;
    struct __attribute__((packed)) {
        uint32_t magic;
        uint8_t op;
        uint16_t name_len;
        int64_t offset;
        uint32_t len;
    } head = {0x5ead10c5, op, strlen(name), offset, len};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)name, head.name_len}, {(void *)data, len}};
    ssize_t all = sizeof head + head.name_len + len;
    /* A record that is not whole would make every later one unreadable. */
    if (syscall(SYS_writev, log_fd, parts, 3) != all) abort();
}

static ssize_t write_at(int fd, const char *name, const void *data, size_t len, int64_t offset) {
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    if (!fails(name, control->write_errno)) {
        int is_at_place = offset >= 0;
        if (is_at_place) {
            done = syscall(SYS_pwrite64, fd, data, len, offset);
        } else {
            int flags = syscall(SYS_fcntl, fd, F_GETFL);
            offset = flags & O_APPEND ? syscall(SYS_lseek, fd, 0, SEEK_END)
                                      : syscall(SYS_lseek, fd, 0, SEEK_CUR);
            done = syscall(SYS_write, fd, data, len);
        }
        if (done > 0) put('W', name, offset, data, done);
    }
    int code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return done;
}

ssize_t write(int fd, const void *data, size_t len) {
    char buffer[4096];
    const char *name = name_of(fd, buffer, sizeof buffer);
    return name ? write_at(fd, name, data, len, -1) : syscall(SYS_write, fd, data, len);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) {
    char buffer[4096];
    const char *name = name_of(fd, buffer, sizeof buffer);
    return name ? write_at(fd, name, data, len, offset) : syscall(SYS_pwrite64, fd, data, len, offset);
}

static int read_fails(int fd) {
    char buffer[4096];
    const char *name = control->read_errno ? name_of(fd, buffer, sizeof buffer) : 0;
    if (!name) return 0;
    pthread_mutex_lock(&lock);
    int result = fails(name, control->read_errno);
    pthread_mutex_unlock(&lock);
    if (result) errno = control->read_errno;
    return result;
}

ssize_t read(int fd, void *data, size_t len) {
    return read_fails(fd) ? -1 : syscall(SYS_read, fd, data, len);
}

ssize_t pread64(int fd, void *data, size_t len, off64_t offset) {
    return read_fails(fd) ? -1 : syscall(SYS_pread64, fd, data, len, offset);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset) { return pread64(fd, data, len, offset); }

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) {
    return pwrite64(fd, data, len, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char buffer[4096];
    const char *name = name_of(fd, buffer, sizeof buffer);
    if (!name) return syscall(SYS_writev, fd, parts, count);
    /* A short write is legal: the first part that holds anything. */
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len) return write_at(fd, name, parts[i].iov_base, parts[i].iov_len, -1);
    return 0;
}

static int sync_of(int fd, long call) {
    char buffer[4096];
    const char *name = name_of(fd, buffer, sizeof buffer);
    if (!name) return syscall(call, fd);
    pthread_mutex_lock(&lock);
    /* What reaches this disk is what the log says: the real one need not be waited for. */
    int result = 0;
    if (fails(name, control->sync_errno)) {
        put('F', name, 0, 0, 0);
        result = -1;
    } else {
        put('S', name, 0, 0, 0);
    }
    int code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return result;
}

int fsync(int fd) { return sync_of(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_of(fd, SYS_fdatasync); }

int ftruncate64(int fd, off64_t size) {
    char buffer[4096];
    const char *name = name_of(fd, buffer, sizeof buffer);
    if (!name) return syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int result = fails(name, control->write_errno) ? -1 : syscall(SYS_ftruncate, fd, size);
    if (!result) put('T', name, size, 0, 0);
    int code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    /* Ours are opened by their whole path. */
    const char *name = path[0] == '/' ? below(path) : 0;
    if (!name || !(flags & (O_CREAT | O_TRUNC))) return syscall(SYS_openat, dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before;
    int was_there = !stat(path, &before);
    int fd = -1;
    if (was_there || !fails(name, control->write_errno)) fd = syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && !was_there) put('C', name, 0, 0, 0);
    if (fd >= 0 && was_there && flags & O_TRUNC && S_ISREG(before.st_mode)) put('T', name, 0, 0, 0);
    int code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, int); \
        va_end(more); \
    }

int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return open_at(dir, path, flags | O_LARGEFILE, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return open_at(dir, path, flags, mode); }

int unlink(const char *path) {
    const char *name = below(path);
    if (!name) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (!result) put('U', name, 0, 0, 0);
    int code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return result;
}

int rename(const char *from, const char *to) {
    const char *old = below(from), *name = below(to);
    if (!old || !name) return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (!result) put('R', old, 0, name, strlen(name));
    int code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return result;
}

/* The wall clock. The monotonic ones are nobody's to move. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlvsym(RTLD_NEXT, "clock_gettime", "GLIBC_2.17");
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real ? real(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
    int64_t added = control->clock_micros;
    if (!result && added && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanos = now->tv_nsec + added % 1000000 * 1000;
        now->tv_sec += added / 1000000 + nanos / 1000000000;
        now->tv_nsec = nanos % 1000000000;
        if (now->tv_nsec < 0) { now->tv_nsec += 1000000000; now->tv_sec--; }
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    if (!result) { now->tv_sec = exact.tv_sec; now->tv_usec = exact.tv_nsec / 1000; }
    return result;
}

time_t time(time_t *to) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (to) *to = exact.tv_sec;
    return exact.tv_sec;
}
