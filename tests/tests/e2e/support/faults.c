/* Lets calls of the C library fail, for the tests of faults: laid under every process of a mount namespace.
 *
 * The file RULES holds `KIND ERRNO SKIP PART`: calls of that kind on paths with PART in them fail with that number, but
 * for the first SKIP of them. Kinds: `write` (everything that takes room, and the flushes), `open`; and `clock`, on the
 * path `wall`: the wall clock is that many seconds ahead. No file, no fault.
 * Each such call leaves a line with its path in RULES.seen, each failure one in RULES.met. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LINE 120
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Leaves a line in a file. Returns how many there are then. */
static long mark(const char *file, const char *path)
{
    long fd = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return 0;
    /* Lines of one length, so that where one ends says how many there are. */
    char line[LINE + 1];
    size_t length = strlen(path);
    snprintf(line, sizeof line, "%-*s\n", LINE - 1, length > LINE - 1 ? path + length - (LINE - 1) : path);
    syscall(SYS_write, fd, line, LINE);
    long end = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    syscall(SYS_close, fd);
    return end / LINE;
}

/* The error that a call is to fail with; 0 if with none. By bare system calls: this is below the library. */
static int fault(const char *kind, const char *path)
{
    char rules[2048], kinds[16], part[1024];
    int saved = errno, number = 0;
    long skip = 0;
    long fd = syscall(SYS_openat, AT_FDCWD, RULES, O_RDONLY | O_CLOEXEC);
    if (fd < 0) { errno = saved; return 0; }
    long length = syscall(SYS_read, fd, rules, sizeof rules - 1);
    syscall(SYS_close, fd);
    rules[length > 0 ? length : 0] = 0;
    int ours = sscanf(rules, "%15s %d %ld %1023s", kinds, &number, &skip, part) == 4
        && !strcmp(kinds, kind) && strstr(path, part);
    if (!ours || mark(RULES ".seen", path) <= skip) number = 0;
    else mark(RULES ".met", path);
    errno = saved;
    return number;
}

static int fault_at(const char *kind, int fd)
{
    char link[64], path[PATH_MAX];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0) return 0;
    path[length] = 0;
    return path[0] == '/' ? fault(kind, path) : 0;
}

/* Paths may be relative to the folder that a process stands in, or to a descriptor. */
static int fault_below(const char *kind, int dir, const char *path)
{
    char at[PATH_MAX], link[64];
    if (path[0] == '/') return fault(kind, path);
    int saved = errno;
    if (dir == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, at, sizeof at - 1);
    errno = saved;
    if (length <= 0) return 0;
    snprintf(at + length, sizeof at - (size_t)length, "/%s", path);
    return fault(kind, at);
}

#define FAIL(check) do { int failure = (check); if (failure) { errno = failure; return -1; } } while (0)

ssize_t write(int fd, const void *from, size_t count)
{ FAIL(fault_at("write", fd)); return REAL(write)(fd, from, count); }
ssize_t writev(int fd, const struct iovec *from, int count)
{ FAIL(fault_at("write", fd)); return REAL(writev)(fd, from, count); }
ssize_t pwrite(int fd, const void *from, size_t count, off_t at)
{ FAIL(fault_at("write", fd)); return REAL(pwrite)(fd, from, count, at); }
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at)
{ FAIL(fault_at("write", fd)); return REAL(pwrite64)(fd, from, count, at); }
int fsync(int fd) { FAIL(fault_at("write", fd)); return REAL(fsync)(fd); }
int fdatasync(int fd) { FAIL(fault_at("write", fd)); return REAL(fdatasync)(fd); }
int mkdir(const char *path, mode_t mode)
{ FAIL(fault_below("write", AT_FDCWD, path)); return REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to)
{ FAIL(fault_below("write", AT_FDCWD, to)); return REAL(rename)(from, to); }
int link(const char *from, const char *to)
{ FAIL(fault_below("write", AT_FDCWD, to)); return REAL(link)(from, to); }

static int open_fault(int dir, const char *path, int flags)
{
    struct stat found;
    int failure = fault_below("open", dir, path);
    /* A new file takes room. */
    if (!failure && (flags & O_CREAT) && syscall(SYS_newfstatat, dir, path, &found, 0) != 0)
        failure = fault_below("write", dir, path);
    return failure;
}

#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...)
{ MODE(flags) FAIL(open_fault(AT_FDCWD, path, flags)); return REAL(open)(path, flags, mode); }
int open64(const char *path, int flags, ...)
{ MODE(flags) FAIL(open_fault(AT_FDCWD, path, flags)); return REAL(open64)(path, flags, mode); }
int openat(int dir, const char *path, int flags, ...)
{ MODE(flags) FAIL(open_fault(dir, path, flags)); return REAL(openat)(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...)
{ MODE(flags) FAIL(open_fault(dir, path, flags)); return REAL(openat64)(dir, path, flags, mode); }

int clock_gettime(clockid_t clock, struct timespec *to)
{
    int failed = REAL(clock_gettime)(clock, to);
    if (!failed && clock == CLOCK_REALTIME) to->tv_sec += fault("clock", "wall");
    return failed;
}
