"""The table of every kind of memory, for tests that go through all of them."""

import backed
import hugetlb
import memory
import odd
import uffd


def _named(*makers):
    return {maker.__name__: maker for maker in makers}


#: Private memory without a file: name to maker(pages).
ANONYMOUS = _named(
    memory.untouched,
    memory.touched,
    memory.sparse,
    memory.zero,
    memory.freed,
    memory.protected,
    memory.gap,
    memory.guarded,
    memory.huge,
    memory.huge_zero,
    memory.merged,
    uffd.write_protected,
    uffd.poisoned,
    odd.dev_zero,
)

#: Files that are no shared memory.
FILES = _named(backed.file_shared, backed.file_private, backed.file_copied, odd.secret)

#: Memory on hugetlbfs.
HUGETLB = _named(
    hugetlb.hugetlb, hugetlb.hugetlb_shared, hugetlb.hugetlb_memfd, hugetlb.hugetlb_sysv
)

#: Shared memory, of which the page table does not know what is in swap.
SHARED = _named(
    backed.shared_anonymous,
    backed.memfd,
    backed.memfd_sparse,
    backed.memfd_private,
    backed.memfd_read_only,
    backed.posix,
    backed.tmpfs,
    backed.tmpfs_private,
    backed.sysv,
    odd.tmpfs_detached,
    odd.overlay,
)

ALL = ANONYMOUS | FILES | HUGETLB | SHARED

#: Shared memory that is wholly in the file.
IN_FILE = set(SHARED) - {"memfd_sparse", "memfd_private", "memfd_read_only", "tmpfs_private"}

#: Those that only root can make.
ROOTS = {"merged", "tmpfs", "tmpfs_private", "tmpfs_detached", "overlay", *HUGETLB}

#: Those with pages that MADV_PAGEOUT does not take.
STAYING = {"zero", "huge_zero", "merged", "secret", *HUGETLB}
