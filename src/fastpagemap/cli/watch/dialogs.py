"""What is shown over the screen: help, a question, and the choice of columns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.table import Table
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static

__all__ = ["Columns", "Help", "Question"]


class Help(ModalScreen[None]):
    """The keys, and a text below them.

    Parameters
    ----------
    keys : sequence of (str, str)
        Each key, and what it does.
    text : str
        What else there is to know, with textual's markup.
    """

    CSS = """
    Help { align: center middle; }
    Help VerticalScroll { width: 66; height: auto; max-height: 100%; background: $panel; }
    Help Static { padding: 0 2; }
    Help VerticalScroll:ansi { border: round ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,space,enter", "dismiss", "Close"),
    ]

    def __init__(self, keys: Sequence[tuple[str, str]], text: str) -> None:
        super().__init__()
        self._keys, self._text = keys, text

    def compose(self) -> ComposeResult:
        """Show the keys and the text."""
        table = Table.grid(padding=(0, 2))
        for key, meaning in self._keys:
            table.add_row(key, meaning)
        with VerticalScroll():
            yield Static(table)
            yield Static("\n" + self._text)


class Question(ModalScreen[Any]):
    """Asks for a text, until there is an answer to it.

    Parameters
    ----------
    question, example : str
        What is asked, and what may be written.
    answer : callable
        Makes the result from the text; a ValueError says what is wrong with it.
    """

    CSS = """
    Question { align: center middle; }
    Question Vertical { width: 58; height: auto; padding: 0 2; background: $panel; }
    Question Vertical:ansi { border: round ansi_default; }
    Question Input { border: none; height: 1; padding: 0; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close")]

    def __init__(self, question: str, example: str, answer: Callable[[str], Any]) -> None:
        super().__init__()
        self._question, self._example, self._answer = question, example, answer

    def compose(self) -> ComposeResult:
        """Show the question."""
        with Vertical():
            yield Static(f"{self._question} (Enter; Escape leaves it as it is):", markup=False)
            yield Input(placeholder=self._example)
            yield Static(id="wrong", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with the answer, or say what is wrong with the text."""
        try:
            self.dismiss(self._answer(event.value))
        except ValueError as error:
            self.query_one("#wrong", Static).update(str(error))


class Options(OptionList):
    """A list that has no pages until textual has drawn it: not on a screen of one line."""

    def action_page_up(self) -> None:
        """Move up by a page."""
        with contextlib.suppress(KeyError):
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        """Move down by a page."""
        with contextlib.suppress(KeyError):
            super().action_page_down()  # type: ignore[no-untyped-call]


class Columns(ModalScreen[None]):
    """Lets one choose columns; they stay in their own order, whichever was chosen first.

    Parameters
    ----------
    names : sequence of str
        Those that there are.
    shown : sequence of str
        Those that are chosen now.
    show : callable
        Called with the names chosen, whenever that changes.
    """

    CSS = """
    Columns { align: center middle; }
    Columns Vertical { width: 40; height: auto; max-height: 100%; padding: 0 2; }
    Columns Vertical { background: $panel; }
    Columns Vertical:ansi { border: round ansi_default; }
    Columns OptionList { border: none; height: auto; max-height: 70vh; padding: 0; }
    Columns OptionList { background: $panel; }
    Columns OptionList:ansi:focus > .option-list--option-highlighted {
        text-style: bold underline reverse;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f", "dismiss", "Close"),
        Binding("space", "switch", "Show or hide"),
    ]

    def __init__(
        self, names: Sequence[str], shown: Sequence[str], show: Callable[[tuple[str, ...]], None]
    ) -> None:
        super().__init__()
        self._names, self._shown, self._show = names, set(shown), show

    def compose(self) -> ComposeResult:
        """Show the columns."""
        with Vertical():
            yield Static("Columns (space; Escape when done):")
            # Not a SelectionList: what is chosen is told by colours alone there.
            yield Options(*map(self._line, self._names), markup=False)

    def _line(self, name: str) -> str:
        return f"[{'x' if name in self._shown else ' '}] {name}"

    def action_switch(self) -> None:
        """Show a column, or hide it."""
        self.query_one(OptionList).action_select()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Show a column, or hide it."""
        name = self._names[event.option_index]
        self._shown ^= {name}
        event.option_list.replace_option_prompt_at_index(event.option_index, self._line(name))
        self._show(tuple(name for name in self._names if name in self._shown))
