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
    # First: on a narrow screen not all keys fit.
    Binding("question_mark,f1", "help", "Help", key_display="?", tooltip="these keys"),
    Binding("q", "leave", "Quit", tooltip="quit, or back to the list"),
]
LIST_KEYS: list[BindingType] = [
    Binding("slash", "search", "Search", key_display="/", tooltip="search: a text, or *.so"),
    Binding("o", "order(1)", "Sort", tooltip="sort by the next column (O: back)"),
    Binding("O", "order(-1)", show=False),
    Binding(
        "f", "columns", "Columns", show=False, tooltip="choose the columns; (+2): two do not fit"
    ),
    Binding("s", "save", "Save", show=False, tooltip="save the screen as SVG, in this directory"),
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
    Binding("0", "reset", show=False, tooltip="show all of the selection"),
    Binding("u", "untouched", show=False, tooltip="hide untouched pages, or show them"),
    Binding("d", "soft_dirty", show=False, tooltip="mark soft-dirty pages, or not"),
    Binding("c", "characters", show=False, tooltip="draw cells as characters, or colours"),
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
A cell has the colour of the state that most of its pages have. Swapped or unknown pages are shown \
if they are at least an eighth of the cell.

[b]How old it is[/b]
Looking at pages costs processor time, and holds a lock of the process for a moment. So there are \
budgets: 0.3 % of a processor for the sums of all mappings, and 0.6 % for the pages on the screen. \
With all else, this stays below 2 %. If a look took 10 ms, the next one comes after 2 s; if it \
took 1 s, after 3 minutes. Pages that are newly shown are looked at right away. The top of the \
screen shows how old both are. --interval is the shortest time between two looks.\
"""
TOP_HELP = """\
Sizes are those of 'fastpagemap report'; swapped includes shared memory. Memory that several \
processes map is in the row of each, so rows have no sum. minor and major are page faults a \
second; a major one waits for a disk. pss is present memory, each page divided by how often it is \
mapped; uss is what no other process maps. These two take two or three times as long as all else.

[b]How old it is[/b]
What the kernel counts anyway, such as page faults, is read at each refresh, but with at most 1 % \
of a processor: for 1500 processes about every 5 s. The top of the screen shows how long ago. \
Looking at pages costs more, and holds a lock of the process for a moment. It has a budget of its \
own, 3 % of a processor. With 500 processes, all else takes 2 to 3 % more. Processes with new \
faults or a changed number of resident pages come first, then those that were looked at longest \
ago; age shows how long ago. All processes are looked at once in the beginning, and when columns \
are added. If a process does not answer, it is asked again after a minute, and no other waits for \
it. --interval is the shortest time between two refreshes.\
"""
