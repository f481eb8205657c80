"""Progress bars, on a terminal and in notebooks, for what lasts longer than two seconds."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SHOW_AFTER = 2.0  # seconds


class Progress:
    """A count that becomes visible when it has run for a while. This one never does."""

    def add(self, n: int = 1) -> None:
        """Count `n` more."""

    def look(self) -> None:
        """Show how things are, without counting."""

    def say(self, state: Callable[[], str]) -> None:
        """Show, behind the numbers, how things are; `state` is called when somebody sees it."""

    def close(self) -> None:
        """End the display."""


class _Visible(Progress):
    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self._options: dict[str, Any] = {"desc": title, "total": total, "unit": unit}
        if unit == "B":
            self._options["unit_scale"] = True
        self._due = time.monotonic() + SHOW_AFTER
        self._bar: Any = None
        self._unseen = 0

    def add(self, n: int = 1) -> None:
        self._unseen += n
        self.look()

    def look(self) -> None:
        if self._bar is None and time.monotonic() >= self._due:
            self._bar = _tqdm()(**self._options)
        if self._bar is not None and self._unseen:
            self._bar.update(self._unseen)
            self._unseen = 0

    def say(self, state: Callable[[], str]) -> None:
        self.look()
        if self._bar is not None:
            self._bar.set_postfix_str(state())

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _tqdm() -> Any:
    """The bar for where this is: a widget in a notebook that has ipywidgets, else text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tqdm, where ipywidgets is not installed
        from tqdm.auto import tqdm
    return tqdm


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()  # None: a daemon has closed it


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, and does not only know what such a one is."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def progress_of(
    title: str, total: int | None, *, unit: str, wanted: bool = True, always: bool = False
) -> Iterator[Progress]:
    """A progress bar for a with-block; silent if it is not wanted, and where nobody watches.

    With `always` it shows there, too.
    """
    watched = always or _on_terminal() or _in_notebook()
    progress = _Visible(title, total, unit) if wanted and watched else Progress()
    try:
        yield progress
    finally:
        progress.close()


@contextmanager
def progress_bar(
    title: str, total: int | None, *, unit: str = "B", always: bool = False
) -> Iterator[Callable[[int], object]]:
    """As `progress_of`, in bytes: a function to be told how many more there are."""
    with progress_of(title, total, unit=unit, always=always) as progress:
        yield progress.add
