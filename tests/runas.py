"""Run a function in a forked child as somebody else, without privilege or with little."""

import ctypes
import os
import pickle
import sys
import traceback
import warnings

import linux

# Nobody's, and not user `nobody`: root believes what such a child answers, and any process of the
# same user's could answer in its place. Neither Debian nor systemd gives this number to anyone.
NOBODY = 65530
CAP_SYS_ADMIN = 21
CAP_CHECKPOINT_RESTORE = 40
_CAPABILITY_VERSION_3 = 0x20080522


def in_child(function, *arguments):
    """Call function(*arguments) in a forked child; its result or its exception comes back here."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():  # numpy may run idle threads; the child makes no use of them
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            linux.die_with_parent()
            with open(writer, "wb") as file:
                file.write(_outcome(function, arguments))
        except BaseException:  # what is raised so late that no answer can tell of it
            traceback.print_exc()
            sys.stderr.flush()  # _exit does not
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise RuntimeError(f"the child died (wait status {status:#x}) before it could answer")
    returned, value, trace = pickle.loads(answer)
    if returned:
        return value
    value.add_note(f"in the child:\n{trace}")
    raise value


def _outcome(function, arguments):
    """(returned?, result or exception, traceback), pickled."""
    try:
        return pickle.dumps((True, function(*arguments), ""))
    except BaseException as found:
        error, trace = _lacking(found) or found, traceback.format_exc()
        try:
            answer = pickle.dumps((False, error, trace))
            pickle.loads(answer)
            return answer
        except Exception:  # an exception that does not survive pickling: its text does
            return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}"), trace))


def _lacking(error):
    """What this machine lacks, if that is why a child failed; a Python may lie in root's home."""
    from needs import Absent

    no_python = isinstance(error, PermissionError) and error.filename == sys.executable
    return Absent("a Python that other users may run") if no_python else None


def run_as(function, *arguments, uid=NOBODY, capabilities=()):
    """Call function(*arguments) in a child of user `uid` that holds these capabilities and no
    other.

    Where this process is not root it has none to give away: without capabilities asked for, the
    child is itself.
    """
    return in_child(_become_and_call, uid, capabilities, function, arguments)


def as_nobody(function, *arguments):
    """Call function(*arguments) in a child without any privilege."""
    return run_as(function, *arguments)


def _become_and_call(uid, capabilities, function, arguments):
    from needs import need

    if os.geteuid() == 0:
        become(uid, capabilities)
    else:
        need(not capabilities, "root (to grant single capabilities)")
    return function(*arguments)


def become(uid, capabilities=()):
    """Make this process user `uid`'s for good, with these capabilities and no other."""
    linux.call("prctl", linux.PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    mask = sum(1 << capability for capability in capabilities)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    # Twice effective, permitted, inheritable: the low 32 capabilities, then the high.
    linux.call("capset", header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0))
    # Changing identity made this process undumpable, and its own /proc files root's.
    linux.call("prctl", linux.PR_SET_DUMPABLE, 1)
