"""What every command shares: flags are parsed here, and a user's error becomes one line and exit status 2."""

import sys
from collections.abc import Callable

from absl import flags
from rich.console import Console

from cardiac_jax.errors import InputError

console = Console(stderr=True, highlight=False)


def run(main: Callable[[], int | None]) -> None:
    """Parses the command line, runs `main` and exits: 0 done, 2 the user's error, 130 interrupted."""
    try:
        extra = flags.FLAGS(sys.argv)[1:]
        if extra:
            raise InputError(extra[0], "unexpected argument (flags are written --name=value)")
        sys.exit(main() or 0)
    except (InputError, flags.Error) as error:
        _fail(" ".join(str(error).split()))
    except OSError as error:  # disk full, permission denied, a file that went away
        where = error.filename or "input/output"
        _fail(f"{where}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _fail(line: str) -> None:
    print(f"error: {line}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    sys.exit(2)
