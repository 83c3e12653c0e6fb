/* The floor: what the kernel charges for reading pagemap, by a loop of large preads in C; and for
 * its own sums, smaps and smaps_rollup, opened and read to the end.
 *
 * With `keep` every entry stays, in an array of one a page: what read(out=) has to do as well.
 * Without, each read goes over the one before, so that no memory is written but a small buffer.
 * Returns seconds; below 0 it is -errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#define MAX_CHUNK_BYTES (256 * 1024)

double floor_read(int fd, uint64_t start, uint64_t pages, uint64_t chunk, char *keep)
{
    static __thread char buffer[MAX_CHUNK_BYTES];
    uint64_t first = start / sysconf(_SC_PAGESIZE) * 8, size = pages * 8;
    struct timespec began, ended;
    if (chunk > MAX_CHUNK_BYTES)
        return -EINVAL;
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (uint64_t done = 0; done < size;) {
        uint64_t left = size - done;
        ssize_t got = pread(fd, keep ? keep + done : buffer, left < chunk ? left : chunk,
                            first + done);
        if (got <= 0)
            return got ? -errno : -ESRCH;
        done += got;
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return ended.tv_sec - began.tv_sec + (ended.tv_nsec - began.tv_nsec) * 1e-9;
}

double floor_file(const char *path)
{
    static __thread char buffer[MAX_CHUNK_BYTES];
    struct timespec began, ended;
    ssize_t got;
    clock_gettime(CLOCK_MONOTONIC, &began);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    while ((got = read(fd, buffer, MAX_CHUNK_BYTES)) > 0)
        ;
    double failed = got ? -errno : 0;
    close(fd);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return failed ? failed
                  : ended.tv_sec - began.tv_sec + (ended.tv_nsec - began.tv_nsec) * 1e-9;
}
