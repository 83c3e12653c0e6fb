"""The kernel and the C library, as declarations only."""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from posix.types cimport off_t

cdef extern from "<unistd.h>" nogil:
    enum: _SC_PAGESIZE
    enum: SEEK_DATA
    enum: SEEK_HOLE
    long sysconf(int name)
    long syscall(long number, ...)
    ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
    ssize_t read(int fd, void *buffer, size_t size)
    off_t lseek(int fd, off_t offset, int whence)

cdef extern from "<fcntl.h>" nogil:
    enum: AT_FDCWD
    int openat(int directory, const char *path, int flags, ...)

cdef extern from "<sys/mman.h>" nogil:
    enum: MAP_ANONYMOUS
    enum: MAP_HUGETLB
    enum: MAP_NORESERVE
    enum: MAP_PRIVATE
    enum: MAP_SHARED
    enum: PROT_NONE
    enum: PROT_READ
    enum: PROT_WRITE
    void *MAP_FAILED
    void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
    int munmap(void *address, size_t size)
    enum: MREMAP_MAYMOVE
    void *mremap(void *address, size_t old_size, size_t new_size, int flags, ...)
    int mincore(void *address, size_t size, unsigned char *vector)
    enum: MS_ASYNC
    int msync(void *address, size_t size, int flags)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, void *argument)

cdef extern from "<sys/vfs.h>" nogil:
    ctypedef struct statfs_t "struct statfs":
        long f_type
    int fstatfs(int fd, statfs_t *found)

cdef extern from "<linux/magic.h>" nogil:
    enum: TMPFS_MAGIC

cdef extern from "<sys/sysinfo.h>" nogil:
    ctypedef struct sysinfo_t "struct sysinfo":
        unsigned long totalswap
        unsigned long freeswap
    int sysinfo(sysinfo_t *found)

cdef extern from "<time.h>" nogil:
    ctypedef struct timespec "struct timespec":
        long tv_sec
        long tv_nsec
    enum: CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef extern from "uapi.h" nogil:
    const int PM_PFRAME_BITS
    const int PM_SOFT_DIRTY
    const int PM_MMAP_EXCLUSIVE
    const int PM_UFFD_WP
    const int PM_GUARD_REGION
    const int PM_FILE
    const int PM_SWAP
    const int PM_PRESENT
    const int SWAP_TYPE_BITS

    const long SYS_memfd_create
    const unsigned int MFD_CLOEXEC "FPM_MFD_CLOEXEC"
    const long SYS_pidfd_open
    const long SYS_kcmp
    const int KCMP_VM "FPM_KCMP_VM"

    const long SYS_cachestat
    ctypedef struct cachestat_range "struct fpm_cachestat_range":
        uint64_t off
        uint64_t len
    ctypedef struct cachestat_t "struct fpm_cachestat":
        uint64_t nr_cache
        uint64_t nr_dirty
        uint64_t nr_writeback
        uint64_t nr_evicted

    const long SYS_statx
    const int AT_EMPTY_PATH "FPM_AT_EMPTY_PATH"
    const int AT_NO_AUTOMOUNT "FPM_AT_NO_AUTOMOUNT"
    const int AT_SYMLINK_NOFOLLOW "FPM_AT_SYMLINK_NOFOLLOW"
    const int AT_STATX_DONT_SYNC "FPM_AT_STATX_DONT_SYNC"
    const unsigned STATX_BASIC "FPM_STATX_BASIC"
    const uint64_t STATX_ATTR_LOCAL "FPM_STATX_ATTR_LOCAL"
    const uint64_t STATX_ATTR_MOUNT_ROOT "FPM_STATX_ATTR_MOUNT_ROOT"
    ctypedef struct statx_time "struct fpm_statx_time":
        int64_t tv_sec
        uint32_t tv_nsec
    ctypedef struct statx_t "struct fpm_statx":
        uint64_t attributes
        uint64_t attributes_mask
        uint16_t mode
        uint64_t ino
        uint64_t size
        statx_time ctime
        statx_time mtime
        uint32_t dev_major
        uint32_t dev_minor

    const long SYS_name_to_handle_at
    ctypedef struct file_handle "struct fpm_file_handle":
        uint32_t bytes
        int32_t type
        unsigned char[128] handle

    const long SYS_move_pages
    const long SYS_io_setup
    const long SYS_io_destroy
    const long SYS_openat2
    ctypedef struct open_how "struct fpm_open_how":
        uint64_t flags
        uint64_t mode
        uint64_t resolve

    const unsigned long PROCMAP_QUERY "FPM_PROCMAP_QUERY"
    const uint64_t PROCMAP_ACCESSIBLE "FPM_PROCMAP_ACCESSIBLE"
    const uint64_t PROCMAP_COVERING_OR_NEXT "FPM_PROCMAP_COVERING_OR_NEXT"
    const uint64_t PROCMAP_FILE_BACKED "FPM_PROCMAP_FILE_BACKED"
    ctypedef struct procmap_query "struct fpm_procmap_query":
        uint64_t size
        uint64_t query_flags
        uint64_t query_addr
        uint64_t vma_start
        uint64_t vma_end
        uint64_t vma_flags
        uint64_t vma_page_size
        uint64_t vma_offset
        uint64_t inode
        uint32_t dev_major
        uint32_t dev_minor
        uint32_t vma_name_size
        uint64_t vma_name_addr

    const unsigned long PAGEMAP_SCAN "FPM_PAGEMAP_SCAN"
    const uint64_t PM_SCAN_WP_MATCHING "FPM_PM_SCAN_WP_MATCHING"
    const uint64_t PM_SCAN_CHECK_WPASYNC "FPM_PM_SCAN_CHECK_WPASYNC"
    const uint64_t PAGE_IS_WPALLOWED "FPM_PAGE_IS_WPALLOWED"
    const uint64_t PAGE_IS_WRITTEN "FPM_PAGE_IS_WRITTEN"
    const uint64_t PAGE_IS_FILE "FPM_PAGE_IS_FILE"
    const uint64_t PAGE_IS_PFNZERO "FPM_PAGE_IS_PFNZERO"
    const uint64_t PAGE_IS_HUGE "FPM_PAGE_IS_HUGE"
    const uint64_t PAGE_IS_GUARD "FPM_PAGE_IS_GUARD"
    const uint64_t PAGE_IS_ACCESSED "FPM_PAGE_IS_ACCESSED"
    const uint64_t PAGE_IS_PRESENT "FPM_PAGE_IS_PRESENT"
    const uint64_t PAGE_IS_SWAPPED "FPM_PAGE_IS_SWAPPED"
    const uint64_t PAGE_IS_SOFT_DIRTY "FPM_PAGE_IS_SOFT_DIRTY"
    ctypedef struct page_region "struct fpm_page_region":
        uint64_t start
        uint64_t end
        uint64_t categories
    ctypedef struct scan_arg "struct fpm_scan_arg":
        uint64_t size
        uint64_t flags
        uint64_t start
        uint64_t end
        uint64_t walk_end
        uint64_t vec
        uint64_t vec_len
        uint64_t max_pages
        uint64_t category_inverted
        uint64_t category_mask
        uint64_t category_anyof_mask
        uint64_t return_mask

    const long SYS_userfaultfd
    const unsigned long UFFDIO_API "FPM_UFFDIO_API"
    const uint64_t UFFD_API "FPM_UFFD_API"
    const int UFFD_USER_MODE_ONLY "FPM_UFFD_USER_MODE_ONLY"
    ctypedef struct uffdio_api "struct fpm_uffdio_api":
        uint64_t api
        uint64_t features
        uint64_t ioctls
    const uint64_t UFFD_FEATURE_WP_ASYNC "FPM_UFFD_FEATURE_WP_ASYNC"
    const uint64_t UFFD_FEATURE_RWP "FPM_UFFD_FEATURE_RWP"
    const uint64_t UFFD_FEATURE_RWP_ASYNC "FPM_UFFD_FEATURE_RWP_ASYNC"
    const unsigned long UFFDIO_REGISTER "FPM_UFFDIO_REGISTER"
    const unsigned long UFFDIO_UNREGISTER "FPM_UFFDIO_UNREGISTER"
    const uint64_t UFFDIO_REGISTER_MODE_WP "FPM_UFFDIO_REGISTER_MODE_WP"
    const uint64_t UFFDIO_REGISTER_MODE_RWP "FPM_UFFDIO_REGISTER_MODE_RWP"
    ctypedef struct uffdio_range "struct fpm_uffdio_range":
        uint64_t start
        uint64_t len
    ctypedef struct uffdio_register "struct fpm_uffdio_register":
        uffdio_range range
        uint64_t mode
    const unsigned long UFFDIO_WRITEPROTECT "FPM_UFFDIO_WRITEPROTECT"
    ctypedef struct uffdio_writeprotect "struct fpm_uffdio_writeprotect":
        uffdio_range range
        uint64_t mode
    const unsigned long UFFDIO_RWPROTECT "FPM_UFFDIO_RWPROTECT"
    const uint64_t UFFDIO_RWPROTECT_MODE_RWP "FPM_UFFDIO_RWPROTECT_MODE_RWP"
    ctypedef struct uffdio_rwprotect "struct fpm_uffdio_rwprotect":
        uffdio_range range
        uint64_t mode
