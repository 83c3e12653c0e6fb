"""The fields of a snapshot, on which both `Snapshot` and `Diff` are built."""

import dataclasses

from ..model.mapping import Mapping
from ..model.runs import Runs
from ..process.capabilities import Capabilities

__all__ = ["SnapshotData"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SnapshotData:
    """The fields of a `Snapshot`, which describes them."""

    pid: int
    name: str
    command: str | None
    time: float
    kernel: str
    machine: str
    page_size: int
    capabilities: Capabilities
    soft_dirty: bool
    mappings: list[Mapping]
    states: Runs
    uid: int | None = None
