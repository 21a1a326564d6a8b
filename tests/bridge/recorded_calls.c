/* Preloaded into a process, records in order what it asks the system to put on a disk.

   cc -shared -fPIC -O1 -o recorded_calls.so recorded_calls.c -ldl
   LD_PRELOAD=./recorded_calls.so POWER_FOLDER=/folder POWER_TRACE=/trace program

   Only what lies in the folder counts. A record: kind (1 byte), three numbers and two lengths
   (64 bits each), then a name and data. Kinds: N new file, D new folder, W write, T truncate,
   A allocate, F fsync, R rename, L link, U unlink or rmdir. Numbers are inodes, offsets and sizes;
   see tests/bridge/power.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -2;
static const char *folder;

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

static void begin(void) {
    pthread_mutex_lock(&lock);
    if (trace == -2) {
        folder = getenv("POWER_FOLDER");
        const char *path = getenv("POWER_TRACE");
        trace = path && folder
            ? syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
            : -1;
    }
}

static void end(void) { pthread_mutex_unlock(&lock); }

static void put(const void *data, size_t n) {
    if (n && (ssize_t)n != syscall(SYS_write, trace, data, n)) abort();
}

static void record(char kind, uint64_t a, uint64_t b, uint64_t c, const char *name,
                   const void *data, uint64_t n) {
    uint64_t head[5] = {a, b, c, name ? strlen(name) : 0, n};
    put(&kind, 1);
    put(head, sizeof head);
    put(name, head[3]);
    put(data, n);
}

static int inside(const char *path) {
    size_t n = folder ? strlen(folder) : 0;
    return trace >= 0 && n && !strncmp(path, folder, n) && (path[n] == '/' || !path[n]);
}

/* The absolute name of a path beside dirfd; its folder's links are followed. */
static int whole(int dirfd, const char *path, char *out) {
    char where[PATH_MAX], base[64];
    if (path[0] == '/') {
        snprintf(where, sizeof where, "%s", path);
    } else if (dirfd == AT_FDCWD) {
        char *cwd = getcwd(NULL, 0);
        snprintf(where, sizeof where, "%s/%s", cwd ? cwd : "", path);
        free(cwd);
    } else {
        snprintf(base, sizeof base, "/proc/self/fd/%d", dirfd);
        ssize_t n = readlink(base, where, sizeof where - 1);
        if (n < 0) return 0;
        snprintf(where + n, sizeof where - n, "/%s", path);
    }
    snprintf(out, PATH_MAX, "%s", where);
    return inside(out);
}

static int of(int fd, char *name, struct stat *about) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, PATH_MAX - 1);
    if (n < 0 || fstat(fd, about)) return 0;
    name[n] = 0;
    return inside(name);
}

static int opened(int dirfd, const char *path, int flags, mode_t mode) {
    char name[PATH_MAX];
    struct stat about;
    begin();
    int mine = path && whole(dirfd, path, name) && (flags & (O_CREAT | O_TRUNC));
    int existed = mine && !stat(name, &about);
    int fd = syscall(SYS_openat, dirfd, path, flags, mode);
    if (fd >= 0 && mine && !fstat(fd, &about)) {
        if (!existed)
            record('N', about.st_ino, 0, 0, name, NULL, 0);
        else if (flags & O_TRUNC)
            record('T', about.st_ino, 0, 0, name, NULL, 0);
    }
    end();
    return fd;
}

#define MODE(flags, last)                                                                          \
    mode_t mode = 0;                                                                               \
    if ((flags) & O_CREAT) {                                                                       \
        va_list more;                                                                              \
        va_start(more, last);                                                                      \
        mode = va_arg(more, int);                                                                  \
        va_end(more);                                                                              \
    }
int open(const char *path, int flags, ...) {
    MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode);
}
int openat(int dirfd, const char *path, int flags, ...) {
    MODE(flags, flags) return opened(dirfd, path, flags, mode);
}
int openat64(int dirfd, const char *path, int flags, ...) {
    MODE(flags, flags) return opened(dirfd, path, flags, mode);
}
int creat(const char *path, mode_t mode) {
    return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

static ssize_t written(int fd, const void *data, size_t n, off_t at) {
    char name[PATH_MAX];
    struct stat about;
    begin();
    int mine = trace >= 0 && fd != trace && of(fd, name, &about);
    off_t place = at;
    if (mine && at < 0)
        place = fcntl(fd, F_GETFL) & O_APPEND ? about.st_size : lseek(fd, 0, SEEK_CUR);
    ssize_t done = at < 0 ? syscall(SYS_write, fd, data, n) : syscall(SYS_pwrite64, fd, data, n, at);
    if (mine && done > 0) record('W', about.st_ino, place, done, NULL, data, done);
    end();
    return done;
}
ssize_t write(int fd, const void *data, size_t n) { return written(fd, data, n, -1); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return written(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) { return written(fd, data, n, at); }
ssize_t writev(int fd, const struct iovec *parts, int n) {
    ssize_t total = 0;
    for (int i = 0; i < n; i++) {
        ssize_t done = written(fd, parts[i].iov_base, parts[i].iov_len, -1);
        if (done < 0) return total ? total : done;
        total += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return total;
}
/* Whoever copies inside the system is told to copy by reading and writing instead. */
ssize_t copy_file_range(int a, off_t *b, int c, off_t *d, size_t e, unsigned f) {
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    return syscall(SYS_copy_file_range, -1, NULL, -1, NULL, 0, ~0u);
}
ssize_t sendfile(int out, int in, off_t *at, size_t n) {
    char buffer[1 << 16];
    ssize_t got = at ? pread(in, buffer, n < sizeof buffer ? n : sizeof buffer, *at)
                     : read(in, buffer, n < sizeof buffer ? n : sizeof buffer);
    if (got <= 0) return got;
    if (at) *at += got;
    return written(out, buffer, got, -1);
}
ssize_t sendfile64(int out, int in, off_t *at, size_t n) { return sendfile(out, in, at, n); }

static void sized(char kind, int fd, uint64_t a, uint64_t b) {
    char name[PATH_MAX];
    struct stat about;
    if (of(fd, name, &about)) record(kind, about.st_ino, a, b, name, NULL, 0);
}
int ftruncate(int fd, off_t size) {
    begin();
    int code = syscall(SYS_ftruncate, fd, size);
    if (!code) sized('T', fd, size, 0);
    end();
    return code;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }
int posix_fallocate(int fd, off_t at, off_t n) {
    begin();
    int code = REAL(int, "posix_fallocate", int, off_t, off_t)(fd, at, n);
    if (!code) sized('A', fd, at, n);
    end();
    return code;
}
int posix_fallocate64(int fd, off_t at, off_t n) { return posix_fallocate(fd, at, n); }

static int forced(int fd, int call) {
    begin();
    int code = syscall(call, fd);
    if (!code) sized('F', fd, 0, 0);
    end();
    return code;
}
int fsync(int fd) { return forced(fd, SYS_fsync); }
int fdatasync(int fd) { return forced(fd, SYS_fdatasync); }

static int moved(char kind, int from, const char *old, int to, const char *new, int flags) {
    char before[PATH_MAX], after[PATH_MAX];
    begin();
    int mine = whole(from, old, before) & whole(to, new, after);
    int code = kind == 'R' ? syscall(SYS_renameat2, from, old, to, new, flags)
                           : syscall(SYS_linkat, from, old, to, new, flags);
    if (!code && mine) record(kind, 0, 0, 0, before, after, strlen(after));
    end();
    return code;
}
int rename(const char *old, const char *new) {
    return moved('R', AT_FDCWD, old, AT_FDCWD, new, 0);
}
int renameat(int from, const char *old, int to, const char *new) {
    return moved('R', from, old, to, new, 0);
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    return moved('R', from, old, to, new, flags);
}
int link(const char *old, const char *new) { return moved('L', AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags) {
    return moved('L', from, old, to, new, flags);
}

static int removed(int dirfd, const char *path, int flags) {
    char name[PATH_MAX];
    begin();
    int mine = whole(dirfd, path, name);
    int code = syscall(SYS_unlinkat, dirfd, path, flags);
    if (!code && mine) record('U', 0, 0, 0, name, NULL, 0);
    end();
    return code;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int dirfd, const char *path, int flags) { return removed(dirfd, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int code = unlink(path);
    return code ? rmdir(path) : code;
}

static int made(int dirfd, const char *path, mode_t mode) {
    char name[PATH_MAX];
    begin();
    int mine = whole(dirfd, path, name);
    int code = syscall(SYS_mkdirat, dirfd, path, mode);
    if (!code && mine) record('D', 0, 0, 0, name, NULL, 0);
    end();
    return code;
}
int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int dirfd, const char *path, mode_t mode) { return made(dirfd, path, mode); }
