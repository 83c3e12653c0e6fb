/* The floor of tracking: what the kernel's own calls cost, and what those pay who use the memory.
 *
 * `rwp` is the userfaultfd that protects pages from reads, too; below 0, writes are tracked by scans
 * alone. All return seconds; below 0 it is -errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "scan.h"

#define WP_MATCHING 1
#define CHECK_WPASYNC 2
#define WRITTEN 2
#define ACCESSED 512
#define MODE_WP 2
#define MODE_RWP 8

struct api {
    uint64_t api, features, ioctls;
};

struct span {
    uint64_t start, length;
};

struct protection {
    struct span span;
    uint64_t mode;
};

struct registration {
    struct span span;
    uint64_t mode, ioctls;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

/* Protect pages from reads and writes. */
static int protect(int rwp, uint64_t start, uint64_t end)
{
    struct protection asked = {.span = {start, end - start}, .mode = 1};
    return ioctl(rwp, _IOWR(0xAA, 0x09, struct protection), &asked);
}

/* Which pages were used, and protect them again; into a mask of a byte a page, unless it is NULL. */
double sweep(int rwp, int pagemap, uint64_t start, uint64_t end, uint64_t page, char *mask)
{
    struct region regions[REGIONS];
    uint64_t category = rwp < 0 ? WRITTEN : ACCESSED, first = start;
    double began = now();
    if (mask)
        memset(mask, 0, (end - start) / page);
    while (start < end) {
        struct scan_arg arg = {
            .size = sizeof arg, .flags = rwp < 0 ? WP_MATCHING | CHECK_WPASYNC : 0,
            .start = start, .end = end, .vec = (uintptr_t)regions, .vec_len = REGIONS,
            .category_mask = category, .return_mask = category,
        };
        int count = ioctl(pagemap, PAGEMAP_SCAN, &arg);
        if (count < 0)
            return -errno;
        for (int i = 0; i < count; i++) {
            struct region *it = &regions[i];
            if (rwp >= 0 && protect(rwp, it->start, it->end) < 0)
                return -errno;
            if (mask)
                memset(mask + (it->start - first) / page, 1, (it->end - it->start) / page);
        }
        start = arg.walk_end;
    }
    return now() - began;
}

/* A userfaultfd that protects asynchronously: from writes, or from all uses. */
int watch(int accesses)
{
    struct api api = {.api = 0xAA, .features = accesses ? 3 << 17 : 1 << 15};
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | 1);
    if (fd < 0)
        return -errno;
    if (ioctl(fd, _IOWR(0xAA, 0x3F, struct api), &api) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

/* Register a span, and protect it. */
double arm(int fd, int accesses, int pagemap, uint64_t start, uint64_t end)
{
    struct registration wanted = {
        .span = {start, end - start}, .mode = accesses ? MODE_RWP : MODE_WP,
    };
    struct scan_arg arg = {
        .size = sizeof arg, .flags = WP_MATCHING | CHECK_WPASYNC, .start = start, .end = end,
        .category_mask = WRITTEN,
    };
    double began = now();
    if (ioctl(fd, _IOWR(0xAA, 0x00, struct registration), &wanted) < 0)
        return -errno;
    if (accesses ? protect(fd, start, end) : ioctl(pagemap, PAGEMAP_SCAN, &arg))
        return -errno;
    return now() - began;
}

double disarm(int fd, uint64_t start, uint64_t end)
{
    struct span span = {start, end - start};
    double began = now();
    if (ioctl(fd, _IOR(0xAA, 0x01, struct span), &span) < 0)
        return -errno;
    return now() - began;
}

/* Read a byte of every step-th page of a span. */
double read_pages(uint64_t start, uint64_t end, uint64_t step)
{
    double began = now();
    for (; start < end; start += step)
        (void)*(volatile char *)start;
    return now() - began;
}

/* Write a byte to every step-th page of a span. */
double write_pages(uint64_t start, uint64_t end, uint64_t step)
{
    double began = now();
    for (; start < end; start += step)
        ++*(volatile char *)start;
    return now() - began;
}
