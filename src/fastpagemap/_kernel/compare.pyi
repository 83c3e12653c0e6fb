from typing import Any

import numpy.typing as npt

__test__: dict[str, Any]

def compare_runs(
    before: npt.NDArray[Any],
    after: npt.NDArray[Any],
    segments: npt.NDArray[Any],
    changes: npt.NDArray[Any],
    replaced: npt.NDArray[Any],
) -> int: ...
