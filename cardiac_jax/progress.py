"""Progress bars: steps done, elapsed time, remaining time. Nothing is shown if the output is not a terminal.

`run_each` runs the cases of a command; a case that fails does not stop the others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cardiac_jax.errors import InputError, printable

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


def saying(console: Console) -> Callable[[str], None]:
    """Returns a function that prints a line as it is, be there brackets in it or not."""
    return lambda line: console.print(line, markup=False, emoji=False)


def run_each(
    cases: Sequence[tuple[str, T]], what: str, console: Console, work: Callable[[T], object]
) -> dict[str, InputError]:
    """Calls `work` on each case `(name, item)`, with a progress bar; returns name -> error of those that failed.

    A failure is printed in one line when it happens; `errors.raise_failed` ends the command.
    """
    failed: dict[str, InputError] = {}
    for name, item in shown(cases, what, console):
        try:
            work(item)
        except InputError as error:
            failed[printable(name)] = error
            say_failed(name, error, console)
    return failed


def say_found(notes: Iterable[str], failed: Mapping[str, InputError], console: Console) -> None:
    """Prints what was noted while the cases of a folder were found, and a line for each that cannot be used."""
    for note in notes:
        saying(console)(note)
    for name, error in failed.items():
        say_failed(name, error, console)


def say_failed(name: str, error: InputError, console: Console) -> None:
    """Prints the line of a case that failed."""
    saying(console)(f"{printable(name)} failed: {error}")
