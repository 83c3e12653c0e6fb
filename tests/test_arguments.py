"""The arguments of PageMap's methods: addresses and out, good and bad."""

import numpy as np
import pytest

import fastpagemap as fpm
import linux
import memory
import oracle
from compare import while_still
from features import keeps_soft_dirty
from linux import PAGE
from needs import Absent, need

PAGES = 37
MASKS = ["present", "swapped", "shared", "exclusive", "unknown"]
MASKS += ["soft_dirty"] if keeps_soft_dirty() else []
METHODS = [*MASKS, "read", "masks"]


@pytest.mark.parametrize("start", [0, PAGE, 2**47, 2**63, 2**64 - PAGE, 2**64])
def test_empty_spans_are_empty(start):
    with fpm.PageMap() as pm:
        assert pm.read(start, start).entries.shape == (0,)
        assert pm.read(start, start).entries.dtype == fpm.ENTRY_DTYPE
        for name in MASKS:
            mask = getattr(pm, name)(start, start)
            assert (mask.shape, mask.dtype) == ((0,), bool)
        masks = pm.masks(start, start)
        assert masks.swapped.shape == masks.unknown.shape == masks.shared.shape == (0,)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("start", "end", "named"),
    [
        (1, PAGE, "0x1"),
        (0, PAGE + 8, hex(PAGE + 8)),
        (PAGE // 2, PAGE // 2, hex(PAGE // 2)),
        (2 * PAGE, PAGE, hex(PAGE)),
        (-PAGE, PAGE, str(hex(PAGE))),
        (-(2**64), 0, "0x1"),
        (-PAGE, -PAGE, hex(PAGE)),
        (0, 2**64 + PAGE, hex(2**64 + PAGE)),
        (2**65, 2**65, hex(2**65)),
        (10**30, 10**30 + PAGE, hex(10**30)),
    ],
)
def test_bad_addresses_are_named(method, start, end, named):
    with fpm.PageMap() as pm, pytest.raises(ValueError, match=named) as caught:
        getattr(pm, method)(start, end)
    if start % PAGE or end % PAGE:
        assert str(PAGE) in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("address", [1.0, "0", None, 2.0**40])
def test_addresses_are_ints(method, address):
    with fpm.PageMap() as pm:
        with pytest.raises(TypeError):
            getattr(pm, method)(address, PAGE)
        with pytest.raises(TypeError):
            getattr(pm, method)(0, address)


def test_numpy_ints_are_addresses():
    with memory.touched(PAGES) as made, fpm.PageMap() as pm:
        for kind in (np.uint64, np.int64):
            assert pm.present(kind(made.start), kind(made.end)).all()
            assert pm.read(kind(made.start), kind(made.end)).present.all()


@pytest.mark.parametrize("address", [np.float64(PAGE), np.float32(0), 4096.0, 1j], ids=repr)
def test_a_number_that_is_no_int_is_no_object_with_memory(address):
    """Numpy's floats have a buffer: the page of that little object is not what was meant."""
    with fpm.PageMap() as pm, pytest.raises(TypeError, match="give start and end, or one object"):
        pm.present(address)


def test_a_mapping_or_a_span_is_to_be_taken_apart(victim):
    with fpm.PageMap(victim.pid) as pm:
        for given in (pm.mappings()[0], (0, PAGE)):
            with pytest.raises(TypeError, match="give start and end, or one object"):
                pm.present(given)
            with pytest.raises(TypeError, match="give start and end, or one object"):
                pm.snapshot().state(given)


@pytest.mark.parametrize("wrong", ["one", "array", "numbers", "number", "names"])
@pytest.mark.parametrize("question", ["usage", "states"])
def test_what_are_no_mappings(question, wrong):
    with fpm.PageMap() as pm:
        given = {
            "one": pm.mappings()[0],
            "array": np.ones(10_000),
            "numbers": [1, 2],
            "number": 7,
            "names": ["present"],
        }[wrong]
        if question == "states" and wrong == "array":
            assert len(pm.states(given))
            return
        with pytest.raises(TypeError, match=r"a list of mappings is needed, as from PageMap"):
            getattr(pm, question)(given)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("start", "end"), [(0, 2**64), (2**63, 2**64), (0, 2**57), (2**47, 2**56), (PAGE, 2**64 - PAGE)]
)
def test_huge_spans_are_refused_before_they_cost_anything(method, start, end):
    with fpm.PageMap() as pm, pytest.raises((MemoryError, ValueError)):
        getattr(pm, method)(start, end)


@pytest.mark.parametrize("method", METHODS)
def test_the_whole_user_address_space_kills_nobody(method):
    """2**47 bytes, 32 GiB of mask: refused where that is more than is free, else it takes long."""
    need(linux.meminfo("MemAvailable") < 2**35, "less than 32 GiB of free memory", Absent)
    with fpm.PageMap() as pm, pytest.raises(MemoryError, match="MiB are available"):
        getattr(pm, method)(0, 2**47)


def fill_value(dtype):
    return np.frombuffer(b"\x01" * np.dtype(dtype).itemsize, dtype)[0]


def wrong_outs(dtype, count):
    """Arrays that cannot take `count` elements of a dtype in one piece."""
    read_only = np.full(count, fill_value(dtype))
    read_only.flags.writeable = False
    return {
        "short": np.full(count - 1, fill_value(dtype)),
        "long": np.full(count + 1, fill_value(dtype)),
        "two-dimensional": np.full((1, count), fill_value(dtype)),
        "strided": np.full(2 * count, fill_value(dtype))[::2],
        "backwards": np.full(count, fill_value(dtype))[::-1],
        "read-only": read_only,
        "floats": np.ones(count),
        "bytes": np.ones(count * np.dtype(dtype).itemsize, np.uint8),
        "a list": [True] * count,
        "a bytearray": bytearray(count * np.dtype(dtype).itemsize),
    }


@pytest.mark.parametrize("method", [*MASKS, "read"])
@pytest.mark.parametrize("wrong", wrong_outs(bool, 4))
def test_a_wrong_out_is_refused_and_not_touched(method, wrong):
    out = wrong_outs(fpm.ENTRY_DTYPE if method == "read" else bool, 4)[wrong]
    before = np.asarray(out).tobytes()
    with memory.guarded(4) as made, fpm.PageMap() as pm, pytest.raises(ValueError, match="out"):
        getattr(pm, method)(made.start, made.end, out=out)
    assert np.asarray(out).tobytes() == before


@pytest.mark.parametrize("wrong", ["big-endian", "plain"])
def test_read_wants_entries_as_its_out(wrong):
    out = np.zeros(4, ">u8" if wrong == "big-endian" else np.uint64)
    with fpm.PageMap() as pm, pytest.raises(ValueError, match="out"):
        pm.read(0, 4 * PAGE, out=out)


def test_out_is_filled_and_returned():
    with memory.touched(PAGES, step=2) as made, fpm.PageMap() as pm:
        out = np.zeros(PAGES, fpm.ENTRY_DTYPE)

        def filled():
            assert pm.read(made.start, made.end, out=out).entries is out
            return out["value"].tolist()

        words, found = while_still(filled, lambda: oracle.words(made.start, made.end))
        assert found == words
        # a part of a larger array is an array like any other; what is beside it stays
        large = np.full(PAGES + 2, True)
        large[-1] = False
        inner = large[1:-1]
        assert pm.present(made.start, made.end, out=inner) is inner
        assert large.tolist() == [True, *(page % 2 == 0 for page in range(PAGES)), False]


def test_masks_say_what_they_span():
    with memory.touched(PAGES) as made, fpm.PageMap() as pm:
        masks = pm.masks(made.start, made.end)
        for name in ("swapped", "shared", "unknown"):
            mask = getattr(masks, name)
            assert (mask.dtype, mask.shape) == (bool, (PAGES,))
            assert mask.flags.writeable
