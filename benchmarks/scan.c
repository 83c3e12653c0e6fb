/* The other floor: PAGEMAP_SCAN in ranges of 64 MiB, 512 regions a call, nothing made of them.
 *
 * With `keep` every region stays, one after the other: what regions() has to do as well. Who calls
 * it knows the layout, and so the better polarity. Returns seconds; below 0 it is -errno.
 */
#include <errno.h>
#include <time.h>

#include "scan.h"

#define RANGE (64ULL << 20)

double scan_pages(int fd, uint64_t start, uint64_t end, uint64_t inverted, uint64_t mask,
                  uint64_t anyof, uint64_t returns, struct region *keep)
{
    struct region buffer[REGIONS];
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    while (start < end) {
        struct region *regions = keep ? keep : buffer;
        uint64_t stop = end - start > RANGE ? start + RANGE : end;
        struct scan_arg arg = {
            .size = sizeof arg, .start = start, .end = stop,
            .vec = (uintptr_t)regions, .vec_len = REGIONS,
            .category_inverted = inverted, .category_mask = mask,
            .category_anyof_mask = anyof, .return_mask = returns,
        };
        int count = ioctl(fd, PAGEMAP_SCAN, &arg);
        if (count < 0)
            return -errno;
        start = arg.walk_end;
        /* walk_end can fall short of what was found */
        if (count && regions[count - 1].end > start)
            start = regions[count - 1].end;
        if (keep)
            keep += count;
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return ended.tv_sec - began.tv_sec + (ended.tv_nsec - began.tv_nsec) * 1e-9;
}
