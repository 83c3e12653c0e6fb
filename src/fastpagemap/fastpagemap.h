/* The C level of fastpagemap, for C and C++: the counterpart of core.pxd.
 *
 * core.pxd, in the same directory, says what the functions do, and what they promise to threads,
 * forked children and signal handlers. Nothing has to be linked:
 *
 *     const fastpagemap_api *fpm = fastpagemap_import();      (holding the GIL; NULL: exception set)
 *     ssize_t present = fpm->count_pages(fd, -1, start, count, FASTPAGEMAP_PRESENT);
 *
 * Compile with -I"$(python -c 'import fastpagemap; print(fastpagemap.__path__[0])')". */
#ifndef FASTPAGEMAP_H
#define FASTPAGEMAP_H

#include <Python.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FASTPAGEMAP_CAPSULE "fastpagemap.core._C_API"

/* The questions. */
#define FASTPAGEMAP_PRESENT 0
#define FASTPAGEMAP_SWAP_ENTRY 1
#define FASTPAGEMAP_SHARED 2
#define FASTPAGEMAP_EXCLUSIVE 3
#define FASTPAGEMAP_SOFT_DIRTY 4

/* struct page_region of linux/fs.h. */
typedef struct {
    uint64_t start, end, categories;
} fastpagemap_region;

/* New members are added at the end only, and increase `version`. */
typedef struct {
    int version;
    ssize_t (*read_entries)(int pagemap, uint64_t start, size_t count, uint64_t *entries);
    ssize_t (*decode)(const uint64_t *entries, size_t count, int question, uint8_t *mask);
    ssize_t (*fill_mask)(int pagemap, int maps, uint64_t start, size_t count, int question,
                         uint8_t *mask);
    ssize_t (*count_pages)(int pagemap, int maps, uint64_t start, size_t count, int question);
    ssize_t (*scan_regions)(int pagemap, uint64_t start, uint64_t end, uint64_t mask,
                            uint64_t anyof, uint64_t inverted, uint64_t returns,
                            fastpagemap_region *regions, size_t room, uint64_t *reached);
    /* since version 2 */
    ssize_t (*read_frames)(int file, const uint64_t *frames, size_t count, uint64_t *values);
} fastpagemap_api;

static inline const fastpagemap_api *fastpagemap_import(void) {
    PyObject *module = PyImport_ImportModule("fastpagemap.core");
    if (!module) return NULL;
    Py_DECREF(module); /* sys.modules keeps it */
    return (const fastpagemap_api *)PyCapsule_Import(FASTPAGEMAP_CAPSULE, 0);
}

#ifdef __cplusplus
}
#endif

#endif
