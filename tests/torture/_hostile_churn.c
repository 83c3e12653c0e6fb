/* A process that changes its memory as fast as it can: churn SECONDS SEED. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 64
#define FILE_SIZE (64L << 20)
#define HUGE (2L << 20)
enum { FREE_ = 8, REMOVE = 9, HUGEPAGE = 14, NOHUGEPAGE = 15, PAGEOUT = 21, COLLAPSE = 25,
       GUARD_INSTALL = 102, GUARD_REMOVE = 103 };

static long page;
static char *slot[SLOTS];
static size_t size[SLOTS];
static int file;
static sigjmp_buf beyond;

static unsigned chance(unsigned n) { return (unsigned)rand() % n; }

/* A page beyond the end of the file, or one that may not be written: leave it, and go on. */
static void on_fault(int signal) { (void)signal; siglongjmp(beyond, 1); }

static void touch(char *at, size_t bytes)
{
    size_t step = page * (1 + chance(3));
    int write = chance(4) != 0;
    if (sigsetjmp(beyond, 1))
        return;
    for (size_t i = 0; i < bytes; i += step) {
        volatile char *byte = at + i;
        if (write)
            *byte = (char)i;
        else
            (void)*byte;
    }
}

static void map(int i)
{
    int kind = chance(5), flags = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
    long offset = 0;
    size[i] = chance(3) == 0 ? 2 * HUGE : page * (8 + chance(200));
    if (kind == 0)
        flags = MAP_SHARED | MAP_ANONYMOUS;
    else if (kind <= 2) {
        flags = kind == 1 ? MAP_SHARED : MAP_PRIVATE;
        fd = file;
        offset = page * chance(64);
    }
    slot[i] = mmap(NULL, size[i], PROT_READ | PROT_WRITE, flags, fd, offset);
    if (slot[i] == MAP_FAILED) {
        slot[i] = NULL;
        return;
    }
    madvise(slot[i], size[i], chance(2) ? HUGEPAGE : NOHUGEPAGE);
    touch(slot[i], size[i]);
    /* Not the file: Linux 6.18 once never came back from an ftruncate of it, with huge pages in swap,
     * in shmem_undo_range, and held its lock. SIGKILL did not end it. */
    if (flags & MAP_ANONYMOUS && flags & MAP_PRIVATE && chance(4) == 0)
        madvise(slot[i], size[i], COLLAPSE);
}

/* As an allocator does: a reservation of which more and more may be used. */
static void grow(void)
{
    char *base = mmap(NULL, FILE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return;
    for (long at = 0; at < FILE_SIZE; at += 16 * page) {
        mprotect(base + at, 16 * page, PROT_READ | PROT_WRITE);
        memset(base + at, 1, page);
    }
    munmap(base, FILE_SIZE);
}

static void change(int i)
{
    static const int advice[] = {MADV_DONTNEED, FREE_, REMOVE, HUGEPAGE, NOHUGEPAGE, PAGEOUT,
                                 GUARD_INSTALL, GUARD_REMOVE};
    size_t half = size[i] / 2 / page * page;
    char *moved;
    switch (chance(12)) {
    case 0: munmap(slot[i], size[i]); slot[i] = NULL; break;
    case 1: munmap(slot[i] + half, page); break;
    case 2: mprotect(slot[i] + half, page, chance(2) ? PROT_READ : PROT_NONE); break;
    case 3: mprotect(slot[i], size[i], PROT_READ | PROT_WRITE); break;
    case 4:
        moved = mremap(slot[i], size[i], size[i], MREMAP_MAYMOVE);
        if (moved != MAP_FAILED)
            slot[i] = moved;
        break;
    case 5: mmap(slot[i], half, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); break;
    case 6: mmap(slot[i], half, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0); break;
    case 7: madvise(slot[i], size[i], PAGEOUT); break;
    case 8: touch(slot[i], half); break;
    default: madvise(slot[i] + page * chance(4), page * (1 + chance(size[i] / page - 4)),
                     advice[chance(sizeof(advice) / sizeof(advice[0]))]);
    }
}

static void change_file(void)
{
    switch (chance(3)) {
    case 0: (void)!ftruncate(file, page * chance(4000)); (void)!ftruncate(file, FILE_SIZE); break;
    case 1: fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page * chance(999),
                      page * chance(999)); break;
    default: fallocate(file, FALLOC_FL_KEEP_SIZE, page * chance(999), page * chance(999));
    }
}

static void *go_on(void *started) { for (;;) { usleep(1000); (void)started; } return NULL; }

static void child(void)
{
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int i = 0; i < SLOTS; i++)
            if (slot[i] && chance(8) == 0)
                madvise(slot[i], size[i], PAGEOUT);
        usleep(2000);
        _exit(0);
    }
}

int main(int count, char **values)
{
    if (count < 3)
        return 2;
    time_t end = time(NULL) + atoi(values[1]);
    pthread_t thread;
    char left[24], seed[24];
    page = sysconf(_SC_PAGESIZE);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGCHLD, SIG_IGN);
    signal(SIGBUS, on_fault);
    signal(SIGSEGV, on_fault);
    srand(atoi(values[2]));
    file = memfd_create("churn", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, FILE_SIZE) < 0)
        return 1;
    while (time(NULL) < end) {
        int i = chance(SLOTS);
        if (slot[i] == NULL)
            map(i);
        else
            change(i);
        switch (chance(200000)) {
        case 0: raise(SIGKILL); break;
        case 1: _exit(3);
        case 2: /* the main thread ends, and another goes on */
            if (pthread_create(&thread, NULL, go_on, NULL) == 0)
                pthread_exit(NULL);
            break;
        case 3: case 4: case 5: case 6:
            snprintf(left, sizeof(left), "%ld", (long)(end - time(NULL)));
            snprintf(seed, sizeof(seed), "%d", rand());
            execl("/proc/self/exe", "churn", left, seed, (char *)NULL);
        }
        if (chance(200) == 0)
            child();
        if (chance(100) == 0)
            change_file();
        if (chance(1000) == 0)
            grow();
    }
    return 0;
}
