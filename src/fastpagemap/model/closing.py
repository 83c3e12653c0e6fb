"""Objects that hold something open until they are closed, or their ``with`` block ends."""

from typing import Generic, Self, TypeVar

__all__ = ["Closing"]

Held = TypeVar("Held")


class Closing(Generic[Held]):
    """A context manager that holds something open, and closes itself.

    What is held closes once nothing refers to it: calls under way refer to it, too.
    """

    _held: Held | None

    def __enter__(self) -> Self:
        self._need_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is held open; calls under way in other threads still finish."""
        self._held = None

    def _need_open(self) -> Held:
        """Return what is held open; ValueError if it is closed."""
        held = self._held
        if held is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return held
