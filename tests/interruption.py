"""What happens at every point of a function at which a signal's handler or a thread may run."""

import dis
import sys


class Stop(Exception):
    """What a signal's handler raises."""


def _acting_at(number, codes, act):
    """A trace function that acts at the n-th such point of `codes`.

    CPython runs handlers after calls, and where a function begins.
    """
    names = {code: {i.offset: i.opname for i in dis.get_instructions(code)} for code in codes}
    last, left = dict.fromkeys(codes, ""), number

    def at_opcode(frame, event, _):
        nonlocal left
        if event == "opcode":
            code = frame.f_code
            before, last[code] = last[code], names[code].get(frame.f_lasti, "")
            if before.startswith(("CALL", "RESUME", "BEFORE_WITH")):
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    act()
                    return None
        return at_opcode

    def at_call(frame, _event, _):
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes = True
        return at_opcode

    return at_call


def interrupted(call, codes, number):
    """Whether a call was broken off at the n-th such point of `codes`."""

    def stop():
        raise Stop

    try:
        disturbed(call, codes, number, stop)
    except Stop:
        return True
    return False


def disturbed(call, codes, number, act):
    """What a call returns, and whether `act` was called at the n-th such point of `codes`."""
    acted = []
    before = sys.gettrace()
    sys.settrace(_acting_at(number, codes, lambda: acted.append(act())))
    try:
        return call(), bool(acted)
    finally:
        sys.settrace(before)
