"""The flags: their bits, what they do to arrays, how they print."""

import numpy as np
import pytest

import fastpagemap as fpm


def test_flag_has_the_kernels_bits():
    bits = {flag.name: flag.value.bit_length() - 1 for flag in fpm.Flag}
    assert bits == {
        "SOFT_DIRTY": 55,
        "MMAP_EXCLUSIVE": 56,
        "UFFD_WP": 57,
        "GUARD_REGION": 58,
        "FILE": 61,
        "SWAP": 62,
        "PRESENT": 63,
    }


@pytest.mark.parametrize("flag", list(fpm.Flag))
def test_flag_works_on_arrays(flag):
    words = [0, flag.value, 2**64 - 1, ~flag.value & 2**64 - 1]
    entries = np.array(words, np.uint64).view(fpm.ENTRY_DTYPE)
    assert ((entries["value"] & flag) != 0).tolist() == [False, True, True, False]
    assert ((entries["flags"] & (flag >> 48)) != 0).tolist() == [False, True, True, False]


def test_flags_print_as_names():
    both = fpm.State.PRESENT | fpm.State.HUGE
    assert (repr(both), str(both), f"{both}") == ("State(PRESENT|HUGE)", *["PRESENT|HUGE"] * 2)
    assert (repr(fpm.State(0)), repr(fpm.KPF.KSM)) == ("State(0)", "KPF(KSM)")
    assert repr(fpm.Category(1 << 40 | 1)) == f"Category(WPALLOWED|{1 << 40})"
    assert (f"{both:#x}", f"{both:d}", int(both)) == ("0x41", "65", 65)


def test_the_names_of_an_array_of_flags():
    states = np.array([[65, 0, 1], [1, 2, 65]], np.uint64)
    names = [["PRESENT|HUGE", "0", "PRESENT"], ["PRESENT", "SWAPPED", "PRESENT|HUGE"]]
    assert fpm.State.names(states).tolist() == names
    assert fpm.State.names(states.astype(np.uint16)[:, ::2]).tolist() == [n[::2] for n in names]
    assert fpm.State.names([]).shape == (0,)
    assert fpm.State.names([fpm.State.PRESENT, 2**63 + 1]).tolist() == ["PRESENT"] * 2
    assert fpm.State.names(fpm.State.PRESENT) == "PRESENT"
    # whole entries: their frame numbers are no flags
    words = np.arange(3, dtype=np.uint64) | np.uint64(1 << 63)
    assert fpm.Flag.names(words).tolist() == ["PRESENT"] * 3


@pytest.mark.parametrize("wrong", [-1, [1, -2], 1.5, [1.0], ["a"], None, [2**64], "runs"], ids=repr)
def test_what_are_no_flags_has_no_names(wrong):
    """Neither cut off nor wrapped round; runs of states have a column of them."""
    values = np.zeros(3, fpm.RUN_DTYPE) if wrong == "runs" else wrong
    with pytest.raises(
        ValueError, match=r"flags of dtype|flags\[\d\] is -\d: it cannot be negative"
    ):
        fpm.State.names(values)
