"""`quick_imports`: imports of JAX without garbage collection."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Collects no garbage while JAX is imported, and leaves what it made out of all later collections.

    JAX makes some 10⁵ objects that live as long as the process. To look for garbage among them, again and again, takes
    about a tenth of the time from a command to the first update of training.
    """
    # Once JAX has been imported, garbage of the process may be among the objects that would be left out.
    if "jax" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
