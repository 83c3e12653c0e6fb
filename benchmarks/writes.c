/* The floor of write-tracking: what the kernel's own calls cost, and what a writer pays for them.
 *
 * All return seconds; below 0 it is -errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REGIONS 512
#define WP_MATCHING 1
#define CHECK_WPASYNC 2
#define WRITTEN 2

struct region {
    uint64_t start, end, categories;
};

struct scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

struct api {
    uint64_t api, features, ioctls;
};

struct span {
    uint64_t start, length;
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

/* Which pages were written, and protect them again; without `told`, protect them only. */
double sweep(int pagemap, uint64_t start, uint64_t end, int told)
{
    struct region regions[REGIONS];
    double began = now();
    while (start < end) {
        struct scan_arg arg = {
            .size = sizeof arg, .flags = WP_MATCHING | CHECK_WPASYNC, .start = start, .end = end,
            .vec = told ? (uintptr_t)regions : 0, .vec_len = told ? REGIONS : 0,
            .category_mask = WRITTEN, .return_mask = told ? WRITTEN : 0,
        };
        if (ioctl(pagemap, _IOWR('f', 16, struct scan_arg), &arg) < 0)
            return -errno;
        start = arg.walk_end;
    }
    return now() - began;
}

/* A userfaultfd that protects asynchronously. */
int watch(void)
{
    struct api api = {.api = 0xAA, .features = 1 << 15};
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
double arm(int fd, int pagemap, uint64_t start, uint64_t end)
{
    struct registration wanted = {.span = {start, end - start}, .mode = 2};
    double began = now(), took;
    if (ioctl(fd, _IOWR(0xAA, 0x00, struct registration), &wanted) < 0)
        return -errno;
    took = sweep(pagemap, start, end, 0);
    return took < 0 ? took : now() - began;
}

double disarm(int fd, uint64_t start, uint64_t end)
{
    struct span span = {start, end - start};
    double began = now();
    if (ioctl(fd, _IOR(0xAA, 0x01, struct span), &span) < 0)
        return -errno;
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
