"""The keys of the full-screen views, and what their help says beside them.

A key is in the help if it has a tooltip, and in the last line if it is shown. Each calls the method
of the screen with that name; the lists have their own keys for moving.
"""

from __future__ import annotations

from textual.binding import Binding, BindingType

__all__ = ["APP_KEYS", "LIST_KEYS", "TOP_HELP", "TOP_KEYS", "WATCH_HELP", "WATCH_KEYS"]

#: Of every screen.
APP_KEYS: list[BindingType] = [
    Binding("ctrl+c", "interrupt", show=False, priority=True, system=True),
    Binding("ctrl+z", "suspend_process", show=False),
]
#: Of every screen with a list.
FIRST_KEYS: list[BindingType] = [
    # First: on a narrow screen there is no room for all.
    Binding("question_mark,f1", "help", "Help", key_display="?", tooltip="these keys"),
    Binding("q", "leave", "Quit", tooltip="quit, or back to the list"),
]
LIST_KEYS: list[BindingType] = [
    Binding("slash", "search", "Search", key_display="/", tooltip="search: a text, or *.so"),
    Binding("o", "order(1)", "Sort", tooltip="sort by the next column (O: back)"),
    Binding("O", "order(-1)", show=False),
    Binding(
        "f", "columns", "Columns", show=False, tooltip="choose the columns; (+2): two have no room"
    ),
    Binding("s", "save", "Save", show=False, tooltip="save the screen as SVG, here"),
    Binding("escape", "back", show=False),
]
WATCH_KEYS: list[BindingType] = [
    *FIRST_KEYS,
    Binding("space", "pause", "Pause", tooltip="pause, go on"),
    Binding(
        "plus,equals_sign,z", "zoom(0.5)", "Zoom", key_display="+-", tooltip="fewer pages, or more"
    ),
    Binding("minus,Z", "zoom(2)", show=False),
    Binding("left,h", "shift(-0.25)", show=False, key_display="← →", tooltip="pages beside these"),
    Binding("right,l", "shift(0.25)", show=False),
    Binding("0", "reset", show=False, tooltip="all of it again"),
    Binding("u", "untouched", show=False, tooltip="leave out the untouched, or not"),
    Binding("d", "soft_dirty", show=False, tooltip="show soft-dirty pages as such, or not"),
    Binding("c", "characters", show=False, tooltip="cells as characters, or as colours"),
    Binding("g", "place", "Go to", tooltip="go to an address, a range, or pages by number"),
    Binding("p", "processes", "Children", tooltip="the process and its children, side by side"),
    *LIST_KEYS,
]
TOP_KEYS: list[BindingType] = [
    *FIRST_KEYS,
    Binding("enter", "watch", "Watch", key_display="Enter", tooltip="watch the process"),
    Binding("space", "pause", "Pause", tooltip="pause, go on"),
    *LIST_KEYS,
]

# A paragraph is one line: the screen breaks it.
WATCH_HELP = """\
A cell with pages of several states shows what most of them are; swapped or unknown, from one in \
eight on.

[b]How old it is[/b]
Looking costs processor time, and holds a lock of the process for a moment. So each kind of look \
has a budget: 0.3 % of a processor for the sums of all mappings, 0.6 % for the pages shown; with \
all else, that stays below 2 %. What took 10 ms is looked at again after 2 s, what took 1 s after \
3 minutes; what is newly shown, at once. On top is how old both are. --interval is the shortest \
time between two looks.\
"""
TOP_HELP = """\
Sizes are those of 'fastpagemap report': swapped has the pages of shared memory that are in swap, \
too. What several processes share is in the row of each, so that rows have no sum. minor and \
major are page faults a second; major ones waited for a disk. pss is present by its share, uss \
what no other process maps: to learn that takes two or three times as long as all else.

[b]How old it is[/b]
What the kernel counts anyway, faults among it, is read at each refresh, or as often as 1 % of a \
processor is enough for: with 1500 processes about every 5 s, and on top is how long ago. Looking \
at pages costs more, and holds a lock of the process for a moment. It has a budget of its own: 3 % \
of a processor. With 500 processes, all else takes 2 to 3 % more. Processes with new faults or \
another number of resident pages come first, then those that were looked at longest ago; age is \
how long. All are looked at once in the beginning, and when columns are added. A process that \
does not answer is asked again after a minute, and no other waits for it. --interval is the \
shortest time between two refreshes.\
"""
