"""The errors for user mistakes; commands print one as one line that names the file or key, with exit status 2."""

from collections.abc import Mapping
from os import PathLike

MOST_NAMED = 8  # cases that the last line of a batch names


class InputError(Exception):
    """Bad input: a file, a folder, a configuration key or a checkpoint that cannot be used.

    Args:
      where: the file, folder or key at fault.
      problem: the fault, in one clause.
    """

    def __init__(self, where: str | PathLike[str], problem: str) -> None:
        self.where = printable(str(where))
        self.problem = printable(" ".join(str(problem).split()))
        super().__init__(f"{self.where}: {self.problem}")


class BatchError(InputError):
    """Some cases of a batch failed; the results of the others are complete.

    Args:
      failed: case, or file that is no case, -> its error.
      done: number of the other cases.
    """

    def __init__(self, failed: Mapping[str, InputError], done: int) -> None:
        self.failed = dict(failed)
        named = ", ".join(list(self.failed)[:MOST_NAMED]) + (", ..." if len(self.failed) > MOST_NAMED else "")
        what = f"{len(self.failed)} of {len(self.failed) + done} cases"
        super().__init__(what, f"failed, for the reasons above: {named}; the results of the others are complete")


def raise_failed(failed: Mapping[str, InputError], done: int) -> None:
    """Ends a batch: does nothing without failures.

    Raises:
      BatchError: some cases failed and `done` others did not.
      InputError: every case failed; the error of the first one.
    """
    if not failed:
        return
    if done:
        raise BatchError(failed, done)
    first = next(iter(failed.values()))
    raise first if len(failed) == 1 else InputError(first.where, f"{first.problem}; all {len(failed)} cases failed")


def printable(text: str) -> str:
    r"""Returns `text` with what is no character (bytes of a file name that are not UTF-8) written as `\xe9`."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # other surrogates, as JSON may hold them
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
