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


def layout(object buffer):
    """Return a buffer's address, shape, strides and itemsize, as numpy has them."""
    cdef Py_buffer view
    cdef int axis
    cdef tuple shape = (), strides = ()
    PyObject_GetBuffer(buffer, &view, PyBUF_STRIDED_RO)
    try:
        if view.strides is NULL:  # ctypes never gives them
            return <uint64_t> view.buf, (view.len,), (1,), 1
        # No lists: one that has no memory to grow crashes in compiled comprehensions.
        for axis in range(view.ndim):
            shape += (view.shape[axis],)
            strides += (view.strides[axis],)
        return <uint64_t> view.buf, shape, strides, view.itemsize
    finally:
        PyBuffer_Release(&view)


cdef const dltensor_t *tensor_of(object capsule) except NULL:
    cdef const versioned_t *versioned
    if not PyCapsule_IsValid(capsule, "dltensor_versioned"):
        return <const dltensor_t *> PyCapsule_GetPointer(capsule, "dltensor")
    versioned = <const versioned_t *> PyCapsule_GetPointer(capsule, "dltensor_versioned")
    if versioned.major != 1:
        raise BufferError(f"it is of DLPack {versioned.major}.{versioned.minor}, not 1")
    return &versioned.tensor


def dlpack_layout(object capsule):
    """Return the same for the capsule from an object's ``__dlpack__()``; it is not consumed."""
    cdef const dltensor_t *tensor = tensor_of(capsule)
    cdef int64_t size = (tensor.type_bits * tensor.type_lanes + 7) // 8
    cdef int axis
    cdef tuple shape = (), strides = None
    if tensor.device_type not in (CPU, CUDA_HOST, ROCM_HOST):
        raise TypeError(f"it is on a device (DLPack's number {tensor.device_type}), not in memory")
    for axis in range(tensor.ndim):
        shape += (tensor.shape[axis],)
    if tensor.strides is not NULL:
        strides = ()
        for axis in range(tensor.ndim):
            strides += (tensor.strides[axis] * size,)
    return <uint64_t> tensor.data + tensor.byte_offset, shape, strides, size
