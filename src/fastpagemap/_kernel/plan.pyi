"""Types of the compiled module."""

from typing import Any

from typing_extensions import disjoint_base

__test__: dict[str, Any]

@disjoint_base
class Plan:
    def __new__(
        cls,
        *,
        scan: bool,
        anyof: int = 0,
        returns: int = 0,
        complement: bool = False,
        verified: tuple[tuple[int, int], ...] = (),
        present_state: int = 0,
        scanned: int = 0,
        one_entry: bool = False,
    ) -> Plan: ...
