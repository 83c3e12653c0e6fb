/* A process that is read while it works: it maps, touches and unmaps a page in a tight loop, or,
 * with a third word, makes no system call and reads its heap a page at a time.
 *
 *     victim RESERVED RESIDENT [cpu]  bytes of heap, and how many are touched, in 16 parts
 *
 * Prints its heap's start and end. For each line on stdin, a number of seconds, it works so long,
 * then prints how often, and the latencies in ns: p50, p99, p99.9 and the longest.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PARTS 16
#define MAX_SAMPLES (1 << 24)

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void *map(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return at;
}

/* How many pages are read between two looks at the clock. */
#define ROUND 256

static size_t read_heap(double seconds, uint32_t *took, size_t page, const volatile char *heap,
                        size_t size)
{
    uint64_t last = now(), end = last + (uint64_t)(seconds * 1e9);
    size_t count = 0, at = 0;
    while (last < end && count < MAX_SAMPLES) {
        for (size_t i = 0; i < ROUND; i++, at = (at + page) % size)
            (void)heap[at];
        uint64_t t = now();
        took[count++] = t - last > UINT32_MAX ? UINT32_MAX : t - last;
        last = t;
    }
    return count;
}

static size_t work(double seconds, uint32_t *took, size_t page)
{
    uint64_t last = now(), end = last + (uint64_t)(seconds * 1e9);
    size_t count = 0;
    while (last < end && count < MAX_SAMPLES) {
        char *at = map(page);
        *at = 1;
        munmap(at, page);
        uint64_t t = now();
        took[count++] = t - last > UINT32_MAX ? UINT32_MAX : t - last;
        last = t;
    }
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 4)
        return 2;
    size_t reserved = strtoull(argv[1], NULL, 0), resident = strtoull(argv[2], NULL, 0);
    size_t page = sysconf(_SC_PAGESIZE);
    uint32_t *took = map(MAX_SAMPLES * sizeof *took);
    char *heap = map(reserved);
    madvise(heap, reserved, MADV_NOHUGEPAGE);
    for (size_t part = 0; part < PARTS; part++)
        memset(heap + reserved / PARTS * part, 1, resident / PARTS);
    memset(took, 0, MAX_SAMPLES * sizeof *took);
    mlock2(heap, reserved, MLOCK_ONFAULT); /* if it may: nothing is to be swapped meanwhile */
    printf("%zu %zu\n", (size_t)heap, (size_t)heap + reserved);
    fflush(stdout);
    for (double seconds; scanf("%lf", &seconds) == 1;) {
        size_t count = argc == 4 ? read_heap(seconds, took, page, heap, reserved)
                                 : work(seconds, took, page);
        qsort(took, count, sizeof *took, by_size);
        printf("%zu %u %u %u %u\n", count, took[count / 2], took[count * 99 / 100],
               took[count * 999 / 1000], took[count - 1]);
        fflush(stdout);
    }
    return 0;
}
