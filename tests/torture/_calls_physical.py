"""Calls about what is physically there: frames, folios, nodes, the page cache, groups.

As those of _calls.py. Left out of the answers is what other processes change: how often pages of
libraries are mapped, and so pss, uss and unique.
"""

import numpy as np

import fastpagemap as fpm

#: Columns of usage() that take another way than those it has by default.
_COLUMNS = ("pss", "uss", "cached", "cache_dirty", "cache_writeback")
_OF_GROUPS = ("rss", "union", "swapped", "swapped_union", "unknown", "changed")


def _rows(table, names):
    """Some columns of a table, those that it has, as lists by name."""
    return {name: table[name].tolist() for name in names if name in table.dtype.names}


def _of_each(method):
    def call(target):
        return {"mask": [getattr(target.held, method)(*span) for span in target.spans]}

    return call


def _folios(target):
    found = [target.held.folios(*span) for span in target.spans]
    return {"mask": [rows[["start", "end", "pfn", "order"]] for rows in found]}


def _frames(target):
    with fpm.Frames() as frames:
        pfns = np.concatenate([target.held.read(*span).pfn for span in target.spans])
        flags = frames.flags(pfns) & np.uint64(fpm.KPF.ANON | fpm.KPF.MMAP)
        told = [flags, frames.mapcounts(pfns), frames.cgroups(pfns), frames.nodes(pfns)]
        return {"mask": [each[pfns != 0] for each in told]}


def _columns(target):
    chosen = [m for m in target.held.mappings() if (m.start, m.end) in target.spans]
    return {"rest": _rows(target.held.usage(chosen, fields=_COLUMNS), _COLUMNS)}


def _group_usage(target):
    with fpm.Group([target.pid]) as group:
        return {"group": _rows(group.usage(), _OF_GROUPS)}


def _group_total(target):
    with fpm.Group.tree(target.pid) as group:
        return {"group": _rows(group.total(), _OF_GROUPS)}


def _sharers(target):
    with fpm.Group([target.pid]) as group:
        told = [group.sharers(target.pid, *span) for span in target.spans]
        return {"mask": [*told, group.overlap()]}


CALLS = {
    **{name: _of_each(name) for name in ("zero", "huge", "cached", "nodes", "mapcounts")},
    "folios": _folios,
    "Frames": _frames,
    "usage of other columns": _columns,
    "Group.usage": _group_usage,
    "Group.total": _group_total,
    "Group.sharers": _sharers,
}


def honest_group(told, real, _for_good):
    """Columns that need frames may be absent; what is not known to be swapped is unknown."""
    if not {"rss", "swapped", "unknown"} <= told.keys() <= real.keys():
        return False
    for name in told.keys() - {"swapped", "swapped_union", "unknown"}:
        if told[name] != real[name]:
            return False
    return np.all(np.subtract(real["swapped"], told["swapped"]) <= told["unknown"])
