"""The error for all user mistakes; commands print it as one line that names the file or key, with exit status 2."""

from os import PathLike


class InputError(Exception):
    """Bad input: a file, a folder, a configuration key or a checkpoint that cannot be used.

    Args:
      where: the file, folder or key at fault.
      problem: the fault, in one clause.
    """

    def __init__(self, where: str | PathLike[str], problem: str) -> None:
        self.where = str(where)
        self.problem = " ".join(str(problem).split())
        super().__init__(f"{self.where}: {self.problem}")
