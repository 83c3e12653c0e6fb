"""The fields of a new snapshot: of a process, or of entries that were saved from one."""

import dataclasses
import os
import time
from typing import Any

import numpy as np

from ..engine.states import states
from ..model import entry
from ..model.mapping import Mapping
from ..model.runs import Runs, State, bounds, clipped, has_any
from ..model.span import checked
from ..process.capabilities import capabilities, capabilities_of
from ..process.live_file import live_file, open_live
from ..process.mappings import mappings
from ..process.probes import release_and_machine
from ..process.process import Process
from . import entries
from .open_file import opened
from .saved_maps import saved_mappings

__all__ = ["of_entries", "of_process"]

# Bytes of a command line that are kept.
MAX_COMMAND_BYTES = 1 << 14

Fields = dict[str, Any]


def of_process(process: Process) -> Fields:
    """Return the fields of a snapshot of a process; see ``PageMap.snapshot``."""
    with process.outlived():
        spans = mappings(process)
        uid = process.uid()
        name = process.read_own("comm").removesuffix(b"\n")
        command = process.read_own("cmdline", MAX_COMMAND_BYTES).rstrip(b"\0").replace(b"\0", b" ")
        found = states(process, None, spans)
        # After the states: what a sandbox has forbidden meanwhile is not in them.
        known = capabilities_of(process, spans)
    return {
        "pid": process.pid,
        "name": os.fsdecode(name),
        "command": os.fsdecode(command) or None,
        **_here(),
        "capabilities": known,
        "soft_dirty": known.soft_dirty,
        "mappings": spans,
        "states": _consistent(found, spans, known.soft_dirty),
        "uid": uid,
    }


def of_entries(source: Any, start: int, maps: Any) -> Fields:
    """Return the fields of a snapshot of entries; see ``Snapshot.from_entries``."""
    start, _, _ = checked(start, start)
    with opened(source) as given:
        process = _process_of(given)
        if process is None:
            spans = () if maps is None else saved_mappings(maps)
            runs, spans = entries.runs_and_mappings(given, start, spans)
        elif start or maps is not None:
            raise ValueError(
                "a live pagemap has its own addresses and mappings: give neither start nor maps"
            )
        else:
            return of_process(process)
    known = dataclasses.replace(capabilities(), scan=False, categories=entry.Category(0))
    return {
        "pid": 0,
        "name": "",
        "command": None,
        **_here(),
        "capabilities": known,
        "soft_dirty": bool(has_any(runs["state"], State.SOFT_DIRTY).any()),
        "mappings": spans,
        "states": runs,
    }


def _here() -> Fields:
    release, machine = release_and_machine()
    return {
        "time": time.time(),
        "kernel": release,
        "machine": machine,
        "page_size": entry.PAGE_SIZE,
    }


def _consistent(runs: Runs, spans: list[Mapping], dirty: bool) -> Runs:
    """Return runs that fit the mappings: the process may have changed these in between."""
    if not dirty and has_any(runs["state"], State.SOFT_DIRTY).any():
        runs["state"] &= ~np.uint64(int(State.SOFT_DIRTY))
        runs = runs[runs["state"] != 0]
    return clipped(runs, *bounds(spans))


def _process_of(source: Any) -> Process | None:
    """Return the process whose pagemap a file is, held open; None for anything else."""
    try:
        fd = source.fileno()
    except (AttributeError, OSError):  # an array; a file without a descriptor
        return None
    found = live_file(fd)
    if found is None:
        return None
    process = open_live(found)
    if not os.pread(fd, 8, 0):  # it has called exec since: the file is of the old program
        raise process.gone()
    return process
