"""Programs that tell what they allocated and touched, to be run under memray."""

# memray sees the calls of shared libraries alone, not what ctypes calls by itself.
LIBRARY = """\
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *new(size_t size) { return malloc(size); }
void *bigger(void *block, size_t size) { return realloc(block, size); }
void *aligned(size_t to, size_t size) { return aligned_alloc(to, size); }
void *mapped(void *at, size_t size, int fixed) {
    return mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
}
int unmap(void *at, size_t size) { return munmap(at, size); }
static void *in_thread(void *size) { return memset(malloc((size_t)size), 1, (size_t)size); }
void *thread(size_t size) {
    pthread_t thread;
    void *block = NULL;
    pthread_create(&thread, NULL, in_thread, (void *)size);
    pthread_join(thread, &block);
    return block;
}
"""

# A program's own account of an allocation: the function that made it, which is the call site, its
# address and size, the spans of it that were touched, and those that were then paged out.
PREAMBLE = """\
import ctypes, json, mmap, os, sys, threading
import numpy as np
import swap  # imported here, so that no function below is the first to

MIB, PAGE = 1 << 20, mmap.PAGESIZE
size_t, pointer = ctypes.c_size_t, ctypes.c_void_p
kept = []
# PR_SET_THP_DISABLE: a touched byte is to cost a page, also where all memory may be huge.
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)

def told(where, start, size, touched=(), paged=()):
    print(json.dumps([where, start, size, touched, paged]), flush=True)

def touch(start, size):
    ctypes.memset(start, 1, size)
    return [start, start + size]

def at(array):
    kept.append(array)
    return array.ctypes.data
"""

# Arenas with room for all that comes, so that none appears at a line that is looked at.
SPARE = "spare = [bytes(200) for _ in range(100_000)][::1000]\n"

ALLOCATORS = """
c = ctypes.CDLL(sys.argv[1])
for name in "new", "bigger", "aligned", "mapped", "thread":
    getattr(c, name).restype = pointer

def sparse():
    start = at(np.zeros(512 * MIB, np.uint8))
    return [(start, 512 * MIB, [touch(start, 8 * MIB)])]

def striped():
    start = at(np.empty(16 * MIB, np.uint8))
    return [(start, 16 * MIB, [touch(start + i, 1) for i in range(0, 16 * MIB, 16 * PAGE)])]

def freed():
    start = at(np.ones(4 * MIB, np.uint8))
    kept.pop()
    return [(start, 0)]

def small():
    block = c.new(size_t(600))
    return [(block, 600, [touch(block, 600)])]

def grown():
    block = c.new(size_t(8 * MIB))
    touch(block, 8 * MIB)
    block = c.bigger(pointer(block), size_t(32 * MIB))
    return [(block, 32 * MIB, [[block, block + 8 * MIB]])]

def aligned():
    block = c.aligned(size_t(65536), size_t(2 * MIB))
    return [(block, 2 * MIB, [touch(block + MIB, MIB)])]

def torn():
    block = c.mapped(pointer(), size_t(64 * PAGE), 0)
    touch(block, 64 * PAGE)
    c.unmap(pointer(block + 16 * PAGE), size_t(16 * PAGE))
    pieces = (block, 16 * PAGE), (block + 32 * PAGE, 32 * PAGE)
    return [(start, size, [[start, start + size]]) for start, size in pieces]

def under():
    global middle
    block = c.mapped(pointer(), size_t(48 * PAGE), 0)
    touch(block, 48 * PAGE)
    middle = block + 16 * PAGE
    pieces = (block, 16 * PAGE), (block + 32 * PAGE, 16 * PAGE)
    return [(start, size, [[start, start + size]]) for start, size in pieces]

def over():
    assert c.mapped(pointer(middle), size_t(16 * PAGE), mmap_fixed) == middle
    return [(middle, 16 * PAGE, [touch(middle, PAGE)])]

def odd():
    block = c.mapped(pointer(), size_t(3 * PAGE + 5), 0)
    return [(block, 3 * PAGE + 5, [touch(block + 3 * PAGE, 5)])]

def shared():
    memory = mmap.mmap(-1, 8 * MIB)
    kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return [(start, 8 * MIB, [touch(start, 3 * MIB)])]

mmap_fixed = 0x10
makers = sparse, striped, freed, *[small] * 5000, grown, aligned, torn, under, over, odd, shared
made = [(each.__name__, row) for each in makers for row in each()]

def in_thread():
    start = at(np.zeros(16 * MIB, np.uint8))
    made.append(("in_thread", (start, 16 * MIB, [touch(start, 5 * MIB)])))

thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
block = c.thread(size_t(2 * MIB))
made.append(("(a thread without Python frames)", (block, 2 * MIB, [[block, block + 2 * MIB]])))
for where, row in made:
    told(where, *row)
if os.fork() == 0:  # it ends as the program does, unseen
    sys.exit()
os.wait()
"""

PAGED_OUT = """
def private():
    start = at(np.ones(8 * MIB, np.uint8))
    first = -(-start // PAGE) * PAGE
    swap.pageout(first, first + 4 * MIB)
    return start, 8 * MIB, [[start, start + 8 * MIB]], [[first, first + 4 * MIB]]

def shared():
    memory = mmap.mmap(-1, 8 * MIB)
    kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    touch(start, 4 * MIB)
    swap.pageout(start, start + 2 * MIB)
    return start, 8 * MIB, [[start, start + 4 * MIB]], [[start, start + 2 * MIB]]

told("private", *private())
told("shared", *shared())
"""

OBJECTS = """
def objects(kept):
    for i in range(len(kept)):
        kept[i] = b"%80d" % i

many = [None] * int(sys.argv[1])
objects(many)
for each in many:
    told("objects", id(each), sys.getsizeof(each), [[id(each), id(each) + sys.getsizeof(each)]])
"""
