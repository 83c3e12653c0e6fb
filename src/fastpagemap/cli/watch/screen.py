"""What the full-screen views share: a list, the keys of it, help, and the smallest size."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from fastpagemap.cli.collect import reason
from fastpagemap.cli.watch.dialogs import Columns, Help, Question
from fastpagemap.cli.watch.listing import Listing
from fastpagemap.cli.watch.saving import save
from fastpagemap.report.text import printable

__all__ = ["ListScreen"]

#: The smallest screen, in columns and lines, on which there is anything to see.
MIN_SIZE = 60, 16
#: On a screen this wide, in columns, there is room for two things side by side.
WIDE_COLUMNS = 140


class ListScreen(Screen[None]):
    """A screen with a list, which has LIST_KEYS among its keys.

    Parameters
    ----------
    listing : Listing
        The list; `compose` puts it on the screen, and a ``Static`` with the id ``small`` that says
        that the terminal is too small.
    """

    HELP_TEXT = ""

    class Failed(Message):
        """Something went wrong that nothing can go on after."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(self, listing: Listing) -> None:
        super().__init__()
        self.listing = listing

    def fail(self, error: Exception) -> None:
        """End the program with an error; if it is about a process, only this screen of several."""
        if isinstance(error, OSError) and self in self.app.screen_stack[1:]:
            self.app.notify(printable(reason(error)), severity="error", markup=False)
            while self.app.screen is not self:  # such as help
                self.app.pop_screen()
            self.dismiss()
        else:
            self.post_message(self.Failed(error))

    # ---- for subclasses ----

    def known_columns(self) -> Sequence[str]:
        """Return the columns that there are to choose from."""
        raise NotImplementedError

    def show_columns(self) -> None:
        """Fill the columns that are shown now."""

    def saved_as(self) -> tuple[str, int | None]:
        """Return the name of a saved screen, and the user whose memory is on it."""
        raise NotImplementedError

    # ---- events ----

    def on_mount(self) -> None:
        """Have the keys go to the list."""
        self.listing.focus()
        self._fit()

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout, or say that the terminal is too small."""
        self._fit()

    def on_screen_resume(self) -> None:
        """Choose the layout: the terminal may have another size than before."""
        self._fit()

    def _fit(self) -> None:
        width, height = self.app.size
        small = width < MIN_SIZE[0] or height < MIN_SIZE[1]
        self.set_class(small, "small")
        self.set_class(width >= WIDE_COLUMNS, "wide")
        if small:
            least = f"{MIN_SIZE[0]}x{MIN_SIZE[1]}"
            text = f"The terminal is too small:\n{width}x{height}, and {least} is needed"
            self.query_one("#small", Static).update(text)

    # ---- keys ----

    def action_search(self) -> None:
        """Ask for a text, and move to the next row that has it."""

        def answer(text: str) -> None:
            if text and not self.listing.search(text):
                raise ValueError("nothing here contains that")

        self.app.push_screen(Question("Search", "a text, or a pattern such as *.so", answer))

    def action_order(self, step: int) -> None:
        """Order the rows in another way."""
        self.listing.next_order(step)

    def action_columns(self) -> None:
        """Let the columns be chosen."""

        def show(chosen: tuple[str, ...]) -> None:
            self.listing.show_columns(chosen)
            self.show_columns()

        self.app.push_screen(Columns(self.known_columns(), self.listing.shown, show))

    def action_help(self) -> None:
        """Show the keys."""
        keys: dict[str, tuple[str, str]] = {}
        for active in self.active_bindings.values():
            if active.tooltip and active.node is not self.app:
                key = self.app.get_key_display(active.binding)
                keys.setdefault(active.binding.action, (key, active.tooltip))
        self.app.push_screen(Help([*keys.values()], self.HELP_TEXT))

    def action_save(self) -> None:
        """Save the screen as a picture.

        Not as textual does it: the picture is of somebody's memory, and other users may be able to
        write here.
        """
        stem, owner = self.saved_as()
        try:
            path = save(self.app.export_screenshot(), stem, owner)
        except OSError as error:
            self.notify(error.strerror or str(error), severity="error", markup=False)
        else:
            self.notify(f"saved as {path}", markup=False)

    def action_leave(self) -> None:
        """Go back to the screen before; from the first one, leave the program."""
        if len(self.app.screen_stack) > 1:
            self.dismiss()
        else:
            self.app.exit(0)

    def action_back(self) -> None:
        """Go back to the screen before, if there is one."""
        if len(self.app.screen_stack) > 1:
            self.dismiss()
