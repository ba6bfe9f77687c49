"""The one error a user can cause: printed as a single line that names the file or key, exit status 2."""

from os import PathLike


class InputError(Exception):
    """Bad input: a file, a folder, a configuration key or a checkpoint that cannot be used.

    Args:
      where: the file, folder or key at fault.
      problem: what is wrong with it, in one clause.
    """

    def __init__(self, where: str | PathLike[str], problem: str) -> None:
        self.where = str(where)
        self.problem = " ".join(str(problem).split())
        super().__init__(f"{self.where}: {self.problem}")
