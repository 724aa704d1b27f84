"""How many threads a library of others may take, said before it is loaded."""

import contextlib
import os
from collections.abc import Iterator

LIMIT = "OMP_THREAD_LIMIT"


@contextlib.contextmanager
def one_openmp_thread() -> Iterator[None]:
    """A library imported in here, with an OpenMP of its own, computes in one thread; a limit that is set stays.

    OMP_NUM_THREADS would not do where the library asks for a number of threads by itself.
    """
    is_ours = LIMIT not in os.environ
    os.environ.setdefault(LIMIT, "1")
    try:
        yield
    finally:
        if is_ours:
            del os.environ[LIMIT]
