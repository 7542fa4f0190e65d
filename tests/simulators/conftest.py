"""The examples of docs/foreign.md."""

import re
import warnings
from pathlib import Path

import jax
import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "foreign.md"


@pytest.fixture
def run_example():
    """A function that runs an example, such as "diffrax" or "diffrax scan", and returns the names that it defines.

    Simulators promote dtypes and warn, which the other tests forbid.
    """

    def run(example):
        library = example.split()[0]
        pytest.importorskip(library, reason=f"{library} is not installed; `make simulators` installs it for this test")
        (code,) = re.findall(rf"^```python {example}\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.M | re.S)
        names = {"__name__": "document"}
        exec(compile(code, f"{DOCUMENT.name}, {example}", "exec"), names)
        return names

    with jax.numpy_dtype_promotion("standard"), warnings.catch_warnings(action="ignore"):
        yield run
