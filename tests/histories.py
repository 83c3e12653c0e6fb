"""Random histories of memory for hypothesis: lists of steps (steps.py), each on some pages."""

from hypothesis import strategies as st

import steps

PAGES = 24

pairs = st.tuples(st.integers(0, PAGES), st.integers(0, PAGES)).map(sorted)
# half of the steps are those that make the differences, on spans that often meet at their ends
often = st.sampled_from(["write", "read", "page out", "file shared", "file private"])
names = often | st.sampled_from(sorted(steps.STEPS))
coarse = st.sampled_from([(first, first + 8) for first in (0, 8, 16)] + [(4, 20), (0, PAGES)])
histories = st.lists(st.tuples(names, coarse | pairs), max_size=16)
