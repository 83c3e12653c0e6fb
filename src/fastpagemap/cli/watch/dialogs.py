"""What ``fastpagemap watch`` shows over the screen: help, and the question for a range."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from fastpagemap.cli.watch.area import View
from fastpagemap.cli.watch.keys import HELP

__all__ = ["Help", "Range"]


class Help(ModalScreen[None]):
    """The keys, and what the cells mean."""

    CSS = """
    Help { align: center middle; }
    Help VerticalScroll { width: 60; height: auto; max-height: 100%; background: $panel; }
    Help Static { padding: 0 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,space,enter", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        """Show the text."""
        with VerticalScroll():
            yield Static(HELP)


class Range(ModalScreen[View | None]):
    """Asks for a range of pages."""

    CSS = """
    Range { align: center middle; }
    Range Vertical { width: 58; height: auto; padding: 0 2; background: $panel; }
    Range Input { border: none; height: 1; padding: 0; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close")]

    def __init__(self, parse: Callable[[str], View]) -> None:
        super().__init__()
        self._parse = parse

    def compose(self) -> ComposeResult:
        """Show the question."""
        with Vertical():
            yield Static("Show the range (Enter; Escape leaves it as it is):")
            yield Input(placeholder="7f0000-7f8000, 7f0000+64Ki or p0-15")
            yield Static(id="wrong")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with the range, or say what is wrong with it."""
        try:
            self.dismiss(self._parse(event.value))
        except ValueError as error:
            self.query_one("#wrong", Static).update(str(error))
