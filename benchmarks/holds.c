/* Preloaded, notes how long the longest ioctl and the longest pread took, in ns.
 *
 * An ioctl PAGEMAP_SCAN that returns at most 512 regions is one hold of the target's mmap_lock; a
 * pread lets go of it after each page table, whose entries are a page of bytes. CPU time is told
 * next to elapsed time, of a pread by hold: where the reader was set aside by the scheduler, only
 * the latter grows.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* [ioctl, pread]: calls, longest by the clock, longest by CPU time */
uint64_t holds[2][3];

static uint64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void note(int which, uint64_t elapsed, uint64_t cpu)
{
    holds[which][0]++;
    if (elapsed > holds[which][1])
        holds[which][1] = elapsed;
    if (cpu > holds[which][2])
        holds[which][2] = cpu;
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, ...);
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (!real)
        real = dlsym(RTLD_NEXT, "ioctl");
    uint64_t cpu = now(CLOCK_THREAD_CPUTIME_ID), began = now(CLOCK_MONOTONIC);
    int got = real(fd, request, argument);
    uint64_t ended = now(CLOCK_MONOTONIC);
    note(0, ended - began, now(CLOCK_THREAD_CPUTIME_ID) - cpu);
    return got;
}

/* what programs with 64-bit offsets call it */
ssize_t pread64(int, void *, size_t, off_t) __attribute__((alias("pread")));

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "pread");
    uint64_t cpu = now(CLOCK_THREAD_CPUTIME_ID), began = now(CLOCK_MONOTONIC);
    ssize_t got = real(fd, buffer, size, offset);
    uint64_t ended = now(CLOCK_MONOTONIC), page = sysconf(_SC_PAGESIZE);
    uint64_t holds_of_lock = size > page ? size / page : 1;
    note(1, ended - began, (now(CLOCK_THREAD_CPUTIME_ID) - cpu) / holds_of_lock);
    return got;
}
