"""The 64-bit entry: bits, dtypes and decode(), with literal words and against the slow twin."""

import itertools
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastpagemap as fpm
import memory
import oracle
from compare import while_still
from fastpagemap._kernel import decoding, swap_types
from fastpagemap.model import questions
from linux import PAGE

# The bytes of two entries on a little-endian machine, as the author of the kernel patch "pagemap:
# report swap location for shared pages" showed them.
SWAPPED = int.from_bytes(bytes.fromhex("80 13 01 00 00 00 00 40"), "little")
PRESENT = int.from_bytes(bytes.fromhex("72 6c 1d 00 00 00 80 a1"), "little")

NAMES = oracle.Entry._fields
any_word = st.integers(0, 2**64 - 1)
#: What the kernel really writes: no more than these flags, and little in the low bits.
plausible_word = st.builds(
    lambda flags, low: sum(1 << bit for bit in flags) | low,
    st.sets(st.sampled_from([55, 56, 57, 58, 61, 62, 63])),
    st.integers(0, 2**20) | st.integers(0, 2**55 - 1),
)

#: Every swap type beside every set of flags: all that an entry can say but the frame's number.
EVERY_ENTRY = np.array(
    [
        sum(flags) | 0x89C << 5 | swap_type
        for flags in itertools.product(*((0, 1 << bit) for bit in (55, 56, 57, 58, 61, 62, 63)))
        for swap_type in range(32)
    ],
    np.uint64,
)


def twin(words):
    """What decode() must answer, from the slow twin, comparable to .tolist()."""
    return [tuple(oracle.decode(int(word))) for word in words]


def array(words):
    return np.array(words, np.uint64)


def test_dtypes_are_what_the_contract_says():
    assert fpm.ENTRY_DTYPE.itemsize == 8
    assert {name: fpm.ENTRY_DTYPE[name].str[1:] for name in fpm.ENTRY_DTYPE.names} == {
        "value": "u8",
        "flags": "u2",
    }
    kinds = {name: fpm.PAGE_DTYPE[name].kind for name in fpm.PAGE_DTYPE.names}
    assert kinds == {name: "u" if "swap_" in name or name == "pfn" else "b" for name in NAMES}
    sizes = [fpm.PAGE_DTYPE[name].itemsize for name in ("pfn", "swap_offset", "swap_type")]
    assert sizes == [8, 8, 1]
    assert fpm.PAGE_SIZE == PAGE


def test_flags_are_the_top_16_bits_of_the_same_8_bytes():
    entries = array([PRESENT, SWAPPED, 0xFEDC << 48]).view(fpm.ENTRY_DTYPE)
    assert entries["value"].tolist() == [PRESENT, SWAPPED, 0xFEDC << 48]
    assert entries["flags"].tolist() == [PRESENT >> 48, SWAPPED >> 48, 0xFEDC]
    entries["flags"] = 0
    assert entries["value"].tolist() == [PRESENT & (1 << 48) - 1, 0x11380, 0]


def test_decode_knows_the_words_of_the_patch_author():
    pages = fpm.decode(array([SWAPPED, PRESENT]).view(fpm.ENTRY_DTYPE))
    assert pages.dtype == fpm.PAGE_DTYPE
    assert dict(zip(pages.dtype.names, pages[0].item(), strict=True)) == {
        "pfn": 0,
        "swap_offset": 0x89C,
        "swap_type": 0,
        "present": False,
        "swapped": True,
        "file": False,
        "guard": False,
        "uffd_wp": False,
        "exclusive": False,
        "soft_dirty": False,
    }
    assert dict(zip(pages.dtype.names, pages[1].item(), strict=True)) == {
        "pfn": 0x1D6C72,
        "swap_offset": 0,
        "swap_type": 0,
        "present": True,
        "swapped": False,
        "file": True,
        "guard": False,
        "uffd_wp": False,
        "exclusive": True,
        "soft_dirty": True,
    }


def test_decode_every_bit_alone_and_every_bit_but_one():
    words = [1 << bit for bit in range(64)]
    words += [2**64 - 1 - word for word in words]
    # and with each of the two bits that say what the low ones are
    words += [word | 1 << 62 for word in words] + [word | 1 << 63 for word in words]
    assert fpm.decode(array(words)).tolist() == twin(words)


def test_soft_dirty_leaks_into_no_frame_number():
    assert fpm.decode(array([1 << 63 | 1 << 55]))["pfn"][0] == 0
    assert fpm.decode(array([1 << 63 | (1 << 55) - 1]))["pfn"][0] == 2**55 - 1
    assert fpm.decode(array([1 << 62 | 1 << 55]))["swap_offset"][0] == 0
    assert fpm.decode(array([1 << 62 | (1 << 55) - 1]))["swap_offset"][0] == 2**50 - 1


@given(st.lists(any_word | plausible_word, max_size=200))
def test_decode_is_the_twin_of_random_words(words):
    assert fpm.decode(array(words)).tolist() == twin(words)


def test_decode_is_the_twin_of_many_words():
    """More than any batch the code may work in, with an odd end."""
    words = np.random.default_rng(2).integers(0, 2**64, 10_007, np.uint64)
    assert fpm.decode(words).tolist() == twin(words)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda words: words.view(fpm.ENTRY_DTYPE), id="ENTRY_DTYPE"),
        pytest.param(lambda words: words.view(np.int64), id="int64"),
        pytest.param(lambda words: words.astype(">u8"), id="big-endian"),
        pytest.param(lambda words: words.astype("<u8"), id="little-endian"),
        pytest.param(lambda words: np.repeat(words, 3)[::3], id="strided"),
        pytest.param(lambda words: words[::-1].copy()[::-1], id="backwards"),
        pytest.param(lambda words: np.frombuffer(words.tobytes(), np.uint64), id="read-only"),
    ],
)
def test_decode_takes_entries_in_any_form(form):
    words = np.random.default_rng(3).integers(0, 2**64, 100, np.uint64)
    assert fpm.decode(form(words)).tolist() == twin(words)


@pytest.mark.parametrize("shape", [(), (0,), (6, 4), (2, 0)])
def test_decode_keeps_the_shape(shape):
    words = np.full(shape, PRESENT, np.uint64)
    pages = fpm.decode(words)
    assert pages.shape == shape
    assert pages.ravel().tolist() == twin(words.ravel())


def test_decode_leaves_its_input_alone():
    words = np.random.default_rng(4).integers(0, 2**64, 1000, np.uint64)
    before = words.copy()
    fpm.decode(words)
    assert (words == before).all()


def test_decode_fills_out():
    words = np.random.default_rng(5).integers(0, 2**64, 1000, np.uint64)
    out = np.full(words.shape, -1, "i8").repeat(3).view(fpm.PAGE_DTYPE)  # no field starts as 0
    assert fpm.decode(words, out=out) is out
    assert out.tolist() == twin(words)
    shaped = np.zeros((10, 100), fpm.PAGE_DTYPE)
    assert fpm.decode(words.reshape(10, 100), out=shaped) is shaped
    assert shaped.ravel().tolist() == twin(words)


def read_only(count):
    out = np.zeros(count, fpm.PAGE_DTYPE)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    "out",
    [
        pytest.param(np.zeros(3, fpm.PAGE_DTYPE), id="too short"),
        pytest.param(np.zeros(5, fpm.PAGE_DTYPE), id="too long"),
        pytest.param(np.zeros((4, 1), fpm.PAGE_DTYPE), id="another shape"),
        pytest.param(np.zeros(4, np.uint64), id="another dtype"),
        pytest.param(np.zeros(4, "V24"), id="raw bytes"),
        pytest.param(np.zeros(8, fpm.PAGE_DTYPE)[::2], id="not contiguous"),
        pytest.param(np.zeros(4, fpm.PAGE_DTYPE)[::-1], id="backwards"),
        pytest.param(read_only(4), id="read-only"),
        pytest.param(bytearray(4 * fpm.PAGE_DTYPE.itemsize), id="no array"),
        pytest.param([0] * 4, id="a list"),
    ],
)
def test_decode_refuses_a_wrong_out_and_does_not_touch_it(out):
    before = bytes(np.asarray(out).tobytes())
    with pytest.raises(ValueError, match="out"):
        fpm.decode(array([PRESENT] * 4), out=out)
    assert bytes(np.asarray(out).tobytes()) == before


@pytest.mark.parametrize(
    "entries",
    [
        np.zeros(4, np.uint32),
        np.zeros(4, np.float64),
        np.zeros(4, fpm.PAGE_DTYPE),
        np.zeros(4, "M8[s]"),
        np.zeros(4, object),
        np.zeros(4, "S8"),
        b"12345678",
        None,
        "text",
    ],
    ids=repr,
)
def test_decode_refuses_what_are_no_entries(entries):
    with pytest.raises(ValueError, match="entries"):
        fpm.decode(entries)


def test_decode_reads_a_file_saved_with_dd(tmp_path):
    saved = tmp_path / "entries"

    def save():
        where = f"if=/proc/{os.getpid()}/pagemap", f"of={saved}", f"skip={made.start // PAGE}"
        assert os.spawnlp(os.P_WAIT, "dd", "dd", *where, "bs=8", "count=100", "status=none") == 0
        return np.fromfile(saved, fpm.ENTRY_DTYPE)

    # the kernel moves pages to other frames when it makes room for huge ones
    with memory.touched(100, step=3) as made:
        words, entries = while_still(save, lambda: oracle.words(made.start, made.end))
    assert fpm.decode(entries).tolist() == twin(words)
    assert fpm.decode(entries)["present"].sum() == 34


# The questions that masks ask of entries.


@pytest.fixture(scope="module", autouse=True)
def _most_types_reserved():
    """The twin takes as many for reserved as any kernel has; here it is found out with swap."""
    decoding.set_reserved_types(swap_types.MAX_RESERVED)
    yield
    decoding.set_reserved_types(swap_types.reserved_types())


def mask(words, question):
    """Answer one question into memory that held something else before."""
    answer = np.full(len(words), 0xAA, np.uint8).view(bool)
    assert questions.mask(np.array(words, np.uint64), question, answer) is answer
    return answer.view(np.uint8).tolist()


@pytest.mark.parametrize("question", oracle.TWINS)
def test_questions_of_every_entry_there_can_be(question):
    expected = [int(oracle.TWINS[question](word)) for word in EVERY_ENTRY.tolist()]
    assert mask(EVERY_ENTRY, question) == expected
    assert len(set(expected)) == 2


@given(
    st.sampled_from(sorted(oracle.TWINS)),
    st.lists(any_word, min_size=1, max_size=4),
    st.integers(0, 70),
    st.integers(0, 70),
)
def test_questions_of_long_runs(question, words, before, after):
    """Runs of one entry may be answered at once; the one that differs must not be missed."""
    words = [words[0]] * before + words + [words[-1]] * after
    expected = [int(oracle.TWINS[question](word)) for word in words]
    assert mask(words, question) == expected


def test_questions_of_many_words():
    """One word that differs, at every place of what may be answered at a time."""
    for place in (0, 1, 4095, 4096, 4097, 9000):
        words = [0] * 9001
        words[place] = PRESENT
        assert mask(words, "present") == [int(page == place) for page in range(9001)]
        words[place] = SWAPPED
        assert mask(words, "swapped") == [int(page == place) for page in range(9001)]
