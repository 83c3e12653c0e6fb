/* The kernel ABI that this package needs: the system's headers may be too old for it. */
#ifndef FASTPAGEMAP_UAPI_H
#define FASTPAGEMAP_UAPI_H

#include <stdint.h>
#include <sys/ioctl.h>

/* Bits of a /proc/PID/pagemap entry: Documentation/admin-guide/mm/pagemap.rst. No header of the
 * kernel exports them; the names are those of fs/proc/task_mmu.c. */
#define PM_PFRAME_BITS 55
#define PM_SOFT_DIRTY 55
#define PM_MMAP_EXCLUSIVE 56 /* 4.2 */
#define PM_UFFD_WP 57        /* 5.13 */
#define PM_GUARD_REGION 58   /* 6.15 */
#define PM_FILE 61
#define PM_SWAP 62
#define PM_PRESENT 63

/* Swap entries put the type in the low bits, the offset above (include/linux/swap.h). The highest
 * types are no swap areas: swap_types.py. */
#define SWAP_TYPE_BITS 5

/* cachestat(2), Linux 6.5: how many pages of a range of a file are in the page cache, and how many
 * were evicted. For shared memory, evicted means swapped out. One number on every architecture. */
#include <sys/syscall.h>
#define FPM_MFD_CLOEXEC 1U
#ifndef SYS_pidfd_open /* 5.3 */
#define SYS_pidfd_open 434
#endif
/* linux/kcmp.h */
#define FPM_KCMP_VM 1

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

struct fpm_cachestat_range {
    uint64_t off, len;
};

struct fpm_cachestat {
    uint64_t nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted;
};

/* statx(2), Linux 4.11: linux/stat.h. With AT_STATX_DONT_SYNC no server is asked. A file system
 * whose files can be immutable has them on this machine: FUSE and networks have no such files. */
#ifndef SYS_statx
#define SYS_statx __NR_statx
#endif
#define FPM_AT_SYMLINK_NOFOLLOW 0x100
#define FPM_AT_NO_AUTOMOUNT 0x800
#define FPM_AT_EMPTY_PATH 0x1000
#define FPM_AT_STATX_DONT_SYNC 0x4000
#define FPM_STATX_BASIC 0x7ff
#define FPM_STATX_ATTR_LOCAL 0x70 /* IMMUTABLE, APPEND, NODUMP */
#define FPM_STATX_ATTR_MOUNT_ROOT 0x2000 /* Linux 5.8 */

struct fpm_statx_time {
    int64_t tv_sec;
    uint32_t tv_nsec, reserved;
};

struct fpm_statx {
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, spare0;
    uint64_t ino, size, blocks, attributes_mask;
    struct fpm_statx_time atime, btime, ctime, mtime;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t spare[14];
};

/* name_to_handle_at(2), Linux 2.6.39: fcntl.h. */
struct fpm_file_handle {
    uint32_t bytes;
    int32_t type;
    unsigned char handle[128];
};

/* openat2(2), Linux 5.6: linux/openat2.h. One number on every architecture. */
#ifndef SYS_openat2
#define SYS_openat2 437
#endif

struct fpm_open_how {
    uint64_t flags, mode, resolve;
};

/* The PROCMAP_QUERY ioctl of /proc/PID/maps, Linux 6.11: linux/fs.h. */
struct fpm_procmap_query {
    uint64_t size, query_flags, query_addr;
    uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};

#define FPM_PROCMAP_QUERY _IOWR('f', 17, struct fpm_procmap_query)
#define FPM_PROCMAP_ACCESSIBLE 0x07 /* to read, write or execute */
#define FPM_PROCMAP_COVERING_OR_NEXT 0x10
#define FPM_PROCMAP_FILE_BACKED 0x20

/* The PAGEMAP_SCAN ioctl of /proc/PID/pagemap, Linux 6.7: linux/fs.h. Under names of our own, so
 * that headers that have it do not get in the way. */
struct fpm_page_region {
    uint64_t start, end, categories;
};

struct fpm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define FPM_PAGEMAP_SCAN _IOWR('f', 16, struct fpm_scan_arg)
#define FPM_PM_SCAN_WP_MATCHING (1 << 0)
#define FPM_PM_SCAN_CHECK_WPASYNC (1 << 1)
#define FPM_PAGE_IS_WPALLOWED (1 << 0)
#define FPM_PAGE_IS_WRITTEN (1 << 1)
#define FPM_PAGE_IS_FILE (1 << 2)
#define FPM_PAGE_IS_PRESENT (1 << 3)
#define FPM_PAGE_IS_SWAPPED (1 << 4)
#define FPM_PAGE_IS_PFNZERO (1 << 5)
#define FPM_PAGE_IS_HUGE (1 << 6)
#define FPM_PAGE_IS_SOFT_DIRTY (1 << 7)
#define FPM_PAGE_IS_GUARD (1 << 8)
#define FPM_PAGE_IS_ACCESSED (1 << 9) /* 7.3 */

/* userfaultfd(2): linux/userfaultfd.h. */
#ifndef SYS_userfaultfd
#define SYS_userfaultfd __NR_userfaultfd
#endif

struct fpm_uffdio_api {
    uint64_t api, features, ioctls;
};

#define FPM_UFFDIO_API _IOWR(0xAA, 0x3F, struct fpm_uffdio_api)
#define FPM_UFFD_API 0xAA
#define FPM_UFFD_USER_MODE_ONLY 1        /* 5.11 */
#define FPM_UFFD_FEATURE_WP_ASYNC (1 << 15) /* 6.7 */
#define FPM_UFFD_FEATURE_RWP (1 << 17)       /* 7.3 */
#define FPM_UFFD_FEATURE_RWP_ASYNC (1 << 18)

struct fpm_uffdio_range {
    uint64_t start, len;
};

struct fpm_uffdio_register {
    struct fpm_uffdio_range range;
    uint64_t mode, ioctls;
};

#define FPM_UFFDIO_REGISTER _IOWR(0xAA, 0x00, struct fpm_uffdio_register)
#define FPM_UFFDIO_UNREGISTER _IOR(0xAA, 0x01, struct fpm_uffdio_range)
#define FPM_UFFDIO_REGISTER_MODE_WP 2
#define FPM_UFFDIO_REGISTER_MODE_RWP 8

struct fpm_uffdio_writeprotect {
    struct fpm_uffdio_range range;
    uint64_t mode;
};

#define FPM_UFFDIO_WRITEPROTECT _IOWR(0xAA, 0x06, struct fpm_uffdio_writeprotect)

struct fpm_uffdio_rwprotect {
    struct fpm_uffdio_range range;
    uint64_t mode;
};

#define FPM_UFFDIO_RWPROTECT _IOWR(0xAA, 0x09, struct fpm_uffdio_rwprotect)
#define FPM_UFFDIO_RWPROTECT_MODE_RWP 1

#endif
