"""Snapshots answer what a PageMap answers: of objects with memory, of mappings, of columns."""

import os
import pickle

import numpy as np
import pytest

import fastpagemap as fpm
import memory
import runas
import tracked
from fastpagemap import Mapping, State
from linux import PAGE
from snapshots import content_of, load, small
from victim import Victim


def test_the_states_of_an_object():
    with memory.sparse(24) as made, fpm.PageMap() as pm:
        values, taken = tracked.array(made), pm.snapshot()
        told = taken.state(values)
        assert told.tolist() == taken.state(made.start, made.end).tolist()
        assert np.count_nonzero(told & State.PRESENT) == 8
        assert taken.state(values[: 5 * PAGE : -1]).shape == (19,)
        out = np.empty(24, np.uint64)
        assert taken.state(values, out=out) is out
        assert taken.state(b"").shape == (0,)


def refused(taken, values):
    with pytest.raises(ValueError, match=r"not taken of.*\*fastpagemap\.span\(object\)"):
        taken.state(values)
    return taken.state(*fpm.span(values)).tolist()


def test_an_object_of_another_process():
    """A pid does not tell: the snapshot may come from another machine or container."""
    values = np.ones(10_000)
    with fpm.PageMap() as pm:
        taken = pm.snapshot()
        assert taken.pid == os.getpid()
    own = taken.state(values).tolist()
    assert refused(load(content_of(taken)), values) == own
    assert refused(pickle.loads(pickle.dumps(taken)), values) == own
    assert runas.in_child(refused, taken, values) == own  # what the child has there may be changed
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        refused(pm.snapshot(), values)


def test_an_address_alone():
    with pytest.raises(TypeError, match=r"0x1000 has no end: give start and end, or one object"):
        small().state(0x1000)
    with pytest.raises(TypeError, match="no memory to ask about"):
        fpm.PageMap().snapshot().state("name")


def test_the_usage_of_some_mappings():
    snapshot, whole = small(), small().usage()
    first, second = snapshot.mappings
    assert snapshot.usage([second, first]).tolist() == whole[::-1].tolist()
    assert snapshot.usage(iter([second]), fields=["path", "kind"])["path"].tolist() == [second.path]
    assert snapshot.usage([]).dtype == whole.dtype
    across = Mapping(5 * PAGE, 20 * PAGE, "---p", 0, 0, 0, "elsewhere")
    (row,) = snapshot.usage([across], fields=["size", "present", "swapped", "path"]).tolist()
    assert row == (15 * PAGE, PAGE, 2 * PAGE, "elsewhere")
    assert snapshot.usage(fields="present").dtype.names == ("present",)


def test_the_same_as_its_process():
    """Of memory that holds still: the answers of both have the same form and content."""
    with Victim() as victim, fpm.PageMap(victim.pid) as pm:
        victim.make("sparse", 37)
        mappings, fields = pm.mappings()[::3], ["start", "size", "present", "zero", "path"]
        fields.remove("zero" if not fpm.capabilities().scan else "size")
        assert (
            pm.snapshot().usage(mappings, fields=fields).tolist()
            == pm.usage(mappings, fields=fields).tolist()
        )


def test_what_are_no_mappings_of_a_snapshot():
    with pytest.raises(TypeError, match=r"a list of str: a list of mappings is needed"):
        small().usage(["present"])
    with pytest.raises(ValueError, match="not aligned"):
        small().usage([small().mappings[0]._replace(start=1)])
    with pytest.raises(ValueError, match=r"ends at 2\*\*64"):
        small().usage([small().mappings[0]._replace(end=2**64)])
