"""How a walk tells pages apart: what a scan reports, and whose entries are read."""

from libc.stdint cimport uint16_t, uint64_t


cdef class Plan:
    """How to tell pages apart; see `plan_t`, and the engine's table of questions."""

    def __cinit__(self, *, bint scan, uint64_t anyof=0, uint64_t returns=0, bint complement=False,
                  tuple verified=(), uint16_t present_state=0, uint16_t scanned=0,
                  bint one_entry=False):
        if len(verified) > MAX_VERIFIED:
            raise ValueError(f"{len(verified)} kinds of pages to verify: at most {MAX_VERIFIED}")
        self.plan.scan = scan
        self.plan.anyof, self.plan.returns = anyof, returns
        self.plan.complement = complement
        for bits, value in verified:
            self.plan.verified[self.plan.verifies].bits = bits
            self.plan.verified[self.plan.verifies].value = value
            self.plan.verifies += 1
        self.plan.present_state, self.plan.scanned = present_state, scanned
        self.plan.one_entry = one_entry
