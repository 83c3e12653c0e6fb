"""The keys of ``fastpagemap watch``, and the help that tells them."""

from __future__ import annotations

from textual.binding import Binding, BindingType

__all__ = ["HELP", "KEYS"]

#: Each calls the method of the app with that name. The list of mappings has its own keys.
KEYS: list[BindingType] = [
    Binding("space", "pause", "Pause"),
    Binding("plus,equals_sign,z", "zoom(0.5)", "Zoom", key_display="+-"),
    Binding("minus,Z", "zoom(2)", show=False),
    Binding("left,h", "shift(-0.25)", "Move", key_display="←→"),
    Binding("right,l", "shift(0.25)", show=False),
    Binding("0", "reset", show=False),
    Binding("g", "range", "Range"),
    Binding("u", "untouched", show=False),
    Binding("d", "soft_dirty", show=False),
    Binding("o", "order", show=False),
    Binding("c", "characters", show=False),
    Binding("s", "save", "Save"),
    Binding("question_mark,f1", "help", "Help", key_display="?"),
    Binding("q", "quit", "Quit"),
    Binding("ctrl+c", "interrupt", show=False, priority=True, system=True),
    Binding("ctrl+z", "suspend_process", show=False),
]

HELP = """\
[b]Look at[/b]
  ↑ ↓ PgUp PgDn   a mapping; Home: the whole process
  + -             fewer or more pages
  ← →             the pages before or after
  0               all of it again
  g               a range: addresses, or pages by number
  u               leave out the untouched, or not
  d               show soft-dirty pages as such, or not
  o               order: address, size, present, swapped
  c               cells as characters, or as colours
[b]And[/b]
  space           pause, go on
  s               save the screen as SVG, here
  q               quit

A cell with pages of several states shows what most of
them are; swapped or unknown, from one in eight on.

The more it costs to look at the pages, the longer it is
until the next look: with all else, that stays below 2 %
of a processor. On top is how old they are.\
"""
