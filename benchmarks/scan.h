/* PAGEMAP_SCAN as linux/fs.h has it, for headers that are older: the floors are independent of the
 * library. */
#include <stdint.h>
#include <sys/ioctl.h>

#define REGIONS 512

struct region {
    uint64_t start, end, categories;
};

struct scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct scan_arg)
