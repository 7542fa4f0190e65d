"""The imports of a command, without garbage collection."""

import sys

from support.shell import run

LEFT_OUT = """
import gc, sys
from seqjax.cli.importing import quick_imports
with quick_imports():
    assert not gc.isenabled()
    import jax
assert gc.isenabled() and gc.get_freeze_count() > 10_000
before = gc.get_freeze_count()
with quick_imports():
    assert gc.isenabled()
assert gc.get_freeze_count() == before
del sys.modules["jax"]
try:
    with quick_imports():
        import a_module_that_is_missing
except ImportError:
    assert gc.isenabled()
"""


def test_what_jax_made_is_left_out_of_later_collections_once_and_a_failure_leaves_collection_on():
    done = run([sys.executable, "-c", LEFT_OUT])
    assert done.returncode == 0, done.stderr
