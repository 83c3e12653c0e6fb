"""The last line of a full-screen view: its keys."""

from __future__ import annotations

from textual import events
from textual.widgets import Footer

__all__ = ["Keys"]


class Keys(Footer):
    """The keys of a screen, the first ones that fit. textual's own cuts a word at the edge."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)

    def on_resize(self, event: events.Resize) -> None:
        """Show as many keys as fit now."""
        self._fit()

    async def recompose(self) -> None:
        """Show other keys."""
        await super().recompose()
        self._fit()

    def _fit(self) -> None:
        left = self.size.width
        for key in self.children:
            left -= key.get_content_width(self.size, self.app.size)
            key.display = left >= 0
