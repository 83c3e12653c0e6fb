/* Makes calls of the C library fail on demand, by LD_PRELOAD: the n-th call of one kind, and with
 * `times` so many from there on. Only calls of the thread that armed it count. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <unistd.h>

#define KINDS(X) \
    X(open) X(read) X(pread) X(scan) X(procmap) X(uffdio) X(lseek) X(mmap) X(mincore) X(fstat) \
    X(fstatfs) X(stat) X(readlink) X(listing) X(memfd) X(cachestat) X(userfaultfd) X(openat2) \
    X(sysinfo) X(movepages) X(write) X(fsync) X(rename) X(chmod) X(dup) X(close) X(malloc) X(realloc)
#define NUMBER(name) K_##name,
#define NAME(name) #name,
enum { KINDS(NUMBER) K_COUNT };
static const char *const names[] = {KINDS(NAME)};

static __thread int armed;
static int wanted = -1, failing_with, shortens;
static long first, times, hits, calls[K_COUNT];

const char *shim_name(int kind) { return kind < K_COUNT ? names[kind] : NULL; }
long shim_calls(int kind) { return calls[kind]; }
long shim_hits(void) { return hits; }

/* With an errno the calls fail; with 0 they transfer less than was asked for. */
void shim_arm(int kind, int error, long nth, long many) {
    for (int i = 0; i < K_COUNT; i++) calls[i] = 0;
    wanted = kind, failing_with = error, shortens = !error, first = nth, times = many, hits = 0;
    armed = 1;
}
void shim_disarm(void) { armed = 0; }

static int due(int kind) {
    if (!armed) return 0;
    long number = ++calls[kind];
    if (kind != wanted || number < first || number - first >= times) return 0;
    hits++;
    return 1;
}
static int fails(int kind) {
    if (!due(kind) || shortens) return 0;
    errno = failing_with;
    return 1;
}
static size_t shorter(int kind, size_t size, int *failed) {
    int hit = due(kind);
    *failed = hit && !shortens;
    if (*failed) errno = failing_with;
    return hit && shortens && size > 1 ? size / 2 : size;
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)
#define WRAP(kind, wrong, result, name, parameters, arguments) \
    result name parameters { \
        static result (*real) parameters; \
        if (!real) real = (result (*) parameters)dlsym(RTLD_NEXT, #name); \
        return fails(K_##kind) ? wrong : real arguments; \
    }

static int creates(int flags) { return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; }
#define MODE(flags) \
    mode_t mode = 0; \
    if (creates(flags)) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }
#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        MODE(flags) \
        REAL(int, name, const char *, int, ...); \
        return fails(K_open) ? -1 : real(path, flags, mode); \
    }
#define OPENS_AT(name) \
    int name(int at, const char *path, int flags, ...) { \
        MODE(flags) \
        REAL(int, name, int, const char *, int, ...); \
        return fails(K_open) ? -1 : real(at, path, flags, mode); \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

ssize_t read(int fd, void *to, size_t size) {
    int failed;
    REAL(ssize_t, read, int, void *, size_t);
    size = shorter(K_read, size, &failed);
    return failed ? -1 : real(fd, to, size);
}
ssize_t pread64(int fd, void *to, size_t size, off64_t at) {
    int failed;
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    size_t less = shorter(K_pread, size, &failed);
    if (less != size && less >= 8) size = less & ~(size_t)7; /* pagemap gives whole entries */
    return failed ? -1 : real(fd, to, size, at);
}
ssize_t write(int fd, const void *from, size_t size) {
    int failed;
    REAL(ssize_t, write, int, const void *, size_t);
    size = shorter(K_write, size, &failed);
    return failed ? -1 : real(fd, from, size);
}
int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    REAL(int, ioctl, int, unsigned long, ...);
    int type = request >> 8 & 0xff, number = request & 0xff;
    int kind = type == 0xAA ? K_uffdio : type != 'f' ? -1 : number == 16 ? K_scan
             : number == 17 ? K_procmap : -1;
    return kind >= 0 && fails(kind) ? -1 : real(fd, request, argument);
}
long syscall(long number, ...) {
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    REAL(long, syscall, long, ...);
    int kind = number == 451 ? K_cachestat : number == 437 ? K_openat2
             : number == SYS_userfaultfd ? K_userfaultfd
             : number == SYS_move_pages ? K_movepages : -1;
    return kind >= 0 && fails(kind) ? -1 : real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
int close(int fd) { /* a close that fails has closed */
    REAL(int, close, int);
    int failed = fails(K_close), result = real(fd);
    if (failed) errno = failing_with;
    return failed ? -1 : result;
}
WRAP(lseek, -1, off64_t, lseek64, (int fd, off64_t at, int from), (fd, at, from))
WRAP(mmap, (void *)-1, void *, mmap64,
     (void *at, size_t size, int rights, int flags, int fd, off64_t offset),
     (at, size, rights, flags, fd, offset))
WRAP(mincore, -1, int, mincore, (void *at, size_t size, unsigned char *to), (at, size, to))
WRAP(fstat, -1, int, fstat64, (int fd, struct stat64 *to), (fd, to))
WRAP(fstatfs, -1, int, fstatfs64, (int fd, struct statfs64 *to), (fd, to))
WRAP(stat, -1, int, stat64, (const char *path, struct stat64 *to), (path, to))
WRAP(stat, -1, int, lstat64, (const char *path, struct stat64 *to), (path, to))
WRAP(stat, -1, int, fstatat64, (int at, const char *path, struct stat64 *to, int flags),
     (at, path, to, flags))
WRAP(readlink, -1, ssize_t, readlink, (const char *path, char *to, size_t size), (path, to, size))
WRAP(readlink, -1, ssize_t, readlinkat, (int at, const char *path, char *to, size_t size),
     (at, path, to, size))
WRAP(listing, NULL, DIR *, opendir, (const char *path), (path))
WRAP(listing, NULL, DIR *, fdopendir, (int fd), (fd))
WRAP(listing, NULL, struct dirent64 *, readdir64, (DIR *directory), (directory))
WRAP(memfd, -1, int, memfd_create, (const char *name, unsigned flags), (name, flags))
WRAP(sysinfo, -1, int, sysinfo, (struct sysinfo *to), (to))
WRAP(fsync, -1, int, fsync, (int fd), (fd))
WRAP(rename, -1, int, rename, (const char *from, const char *to), (from, to))
WRAP(rename, -1, int, renameat, (int at, const char *from, int other, const char *to),
     (at, from, other, to))
WRAP(chmod, -1, int, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(dup, -1, int, dup, (int fd), (fd))

/* dlsym allocates, so these call the C library by its other names. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *malloc(size_t size) { return fails(K_malloc) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) {
    return fails(K_malloc) ? NULL : __libc_calloc(count, size);
}
void *realloc(void *old, size_t size) {
    return fails(K_realloc) ? NULL : __libc_realloc(old, size);
}
