"""The imports of a command, without garbage collection."""

import subprocess
import sys

LEFT_OUT = """
import gc, sys
from seqjax.cli.importing import quick_imports
with quick_imports():
    assert not gc.isenabled()
    sys.modules["jax"] = sys
before = gc.get_freeze_count()
assert gc.isenabled() and before > 1000
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
    subprocess.run([sys.executable, "-c", LEFT_OUT], check=True)
