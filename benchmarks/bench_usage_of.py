"""What does it cost to read many processes, and how long is each one's lock held for that?"""

import bench_polite
import goals.processes
from goals.polite import holds
from goals.rows import Goal, rows
from lab import GIB, Result, Scale, readable, table


def run(scale: Scale) -> list[Result]:
    """Measure processes beside smaps_rollup; tell the longest hold of a large one's lock."""
    found = list(goals.processes.several(scale))
    size = min(GIB, scale.size)
    with bench_polite.victim(size, size) as held:
        found += [goal for goal in holds(readable(size), held) if "usage" in goal.memory]
    table(f"usage_of; medians of {scale.rounds} rounds in turn", rows(found))
    return [_result(goal) for goal in found if goal.limit is not None]


def _result(goal: Goal) -> Result:
    assert goal.limit is not None
    return Result(goal.memory, goal.question, goal.beside, goal.value, goal.limit)
