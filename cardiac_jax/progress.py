"""Progress bars: steps done, elapsed time, remaining time. Nothing is shown if the output is not a terminal."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")


def progress(console: Console) -> Progress:
    """Returns a bar with steps done, elapsed time, remaining time and a note (e.g. the loss)."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        refresh_per_second=2,
        disable=not console.is_terminal,
    )


def shown(items: Sequence[T], what: str, console: Console) -> Iterator[T]:
    """Yields the items in order and shows a progress bar until the last one is done."""
    with progress(console) as bar:
        task = bar.add_task(what, total=len(items), note="")
        for item in items:
            yield item
            bar.advance(task)
        bar.remove_task(task)
