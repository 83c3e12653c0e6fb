"""Exceptions at every point of a function at which a signal's handler may run."""

import dis
import sys


class Stop(Exception):
    """What a signal's handler raises."""


def _raising_at(number, code):
    """A trace function that raises at the n-th such point of `code`.

    CPython runs handlers after calls, and where a function begins.
    """
    names = {i.offset: i.opname for i in dis.get_instructions(code)}
    last, left = "", number

    def at_opcode(frame, event, _):
        nonlocal last, left
        if event == "opcode":
            before, last = last, names.get(frame.f_lasti, "")
            if before.startswith(("CALL", "RESUME", "BEFORE_WITH")):
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise Stop
        return at_opcode

    def at_call(frame, _event, _):
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        return at_opcode

    return at_call


def interrupted(call, code, number):
    """Whether a call was broken off at the n-th such point of `code`."""
    before = sys.gettrace()
    sys.settrace(_raising_at(number, code))
    try:
        call()
    except Stop:
        return True
    finally:
        sys.settrace(before)
    return False
