"""What segments are to a walk."""

cdef enum:
    # Smaller mappings are read together: to find out how to scan them would cost more.
    SMALL_MAPPING_PAGES = 512
    # A bit of a segment's kind: it is no whole mapping.
    CLIPPED = 128
