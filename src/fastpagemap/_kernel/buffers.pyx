"""Where an object's bytes are in memory: the buffer protocol and DLPack."""

from cpython.buffer cimport PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

# DLPack's dlpack.h: the data of a capsule named "dltensor" begins like this...
ctypedef struct dltensor_t:
    void *data
    int32_t device_type
    int32_t device_id
    int32_t ndim
    uint8_t type_code
    uint8_t type_bits
    uint16_t type_lanes
    const int64_t *shape
    const int64_t *strides    # in elements; NULL: contiguous
    uint64_t byte_offset

# ...and that of one named "dltensor_versioned" like this, in all versions 1.x.
ctypedef struct versioned_t:
    uint32_t major
    uint32_t minor
    void *manager
    void *deleter
    uint64_t flags
    dltensor_t tensor

cdef enum:
    # Devices with memory of this process: kDLCPU, and memory that CUDA or ROCm has pinned.
    CPU = 1
    CUDA_HOST = 3
    ROCM_HOST = 11


def extent(object buffer):
    """Return the addresses of a buffer's first byte and of the byte after its last one."""
    cdef Py_buffer view
    cdef Py_ssize_t reach
    cdef uint64_t first, last
    cdef int axis
    PyObject_GetBuffer(buffer, &view, PyBUF_STRIDED_RO)
    first = last = <uint64_t> view.buf
    if view.strides is NULL:  # ctypes never gives them
        last += view.len
    elif view.len:
        last += view.itemsize
        for axis in range(view.ndim):
            reach = (view.shape[axis] - 1) * view.strides[axis]
            if reach < 0:
                first += reach
            else:
                last += reach
    PyBuffer_Release(&view)
    return first, last


cdef const dltensor_t *tensor_of(object capsule) except NULL:
    cdef const versioned_t *versioned
    if not PyCapsule_IsValid(capsule, "dltensor_versioned"):
        return <const dltensor_t *> PyCapsule_GetPointer(capsule, "dltensor")
    versioned = <const versioned_t *> PyCapsule_GetPointer(capsule, "dltensor_versioned")
    if versioned.major != 1:
        raise BufferError(f"it is told by DLPack {versioned.major}.{versioned.minor}, not 1")
    return &versioned.tensor


def dlpack_extent(object capsule):
    """Return the same for the capsule from an object's ``__dlpack__()``; it is not consumed."""
    cdef const dltensor_t *tensor = tensor_of(capsule)
    cdef uint64_t first, last
    cdef int64_t size = (tensor.type_bits * tensor.type_lanes + 7) // 8, reach, contiguous = size
    cdef int axis
    if tensor.device_type not in (CPU, CUDA_HOST, ROCM_HOST):
        raise TypeError(f"it is on a device (DLPack's number {tensor.device_type}), not in memory")
    first = <uint64_t> tensor.data + tensor.byte_offset
    last = first + size
    for axis in range(tensor.ndim - 1, -1, -1):
        if tensor.shape[axis] == 0:
            return first, first
        if tensor.strides is NULL:
            reach = (tensor.shape[axis] - 1) * contiguous
            contiguous *= tensor.shape[axis]
        else:
            reach = (tensor.shape[axis] - 1) * tensor.strides[axis] * size
        if reach < 0:
            first += reach
        else:
            last += reach
    return first, last
