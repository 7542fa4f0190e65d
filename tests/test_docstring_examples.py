"""The examples in the docstrings of the public names run, and give the results that they show."""

import doctest
import inspect
import io
import sys

import pytest

import seqjax
from seqjax import plot, testing

NAMES = [
    *seqjax.__all__,
    *(f"plot.{name}" for name in plot.__all__),
    *(f"testing.{name}" for name in testing.__all__ if callable(getattr(testing, name))),
]
"""The public names of `seqjax`, and the functions of the modules among them."""


def examples_of(name: str, value: object) -> list[doctest.DocTest]:
    """The docstrings of a value with examples: its own, and those of the methods of a class."""
    finder = doctest.DocTestFinder(recurse=inspect.isclass(value))
    return [found for found in finder.find(value, name, module=False, globs={}) if found.examples]


def failures(examples: list[doctest.DocTest]) -> str:
    """What differs from the results that the examples show; empty if nothing does."""
    runner, differences = doctest.DocTestRunner(verbose=False), io.StringIO()
    for each in examples:
        runner.run(each, out=differences.write)
    return differences.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_examples_show_their_results(name, tmp_path, monkeypatch, forget_local_plugins):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)  # the example of `script` sets it
    value = seqjax
    for part in name.split("."):
        value = getattr(value, part)
    examples = examples_of(name, value)
    assert examples, f"seqjax.{name} has no example in its docstring: write one with >>>"
    assert failures(examples) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_result_and_a_missing_example_are_found():
    def double(x):
        """Twice x.

        >>> 2 * 3
        7
        """

    assert "Expected:\n    7\nGot:\n    6" in failures(examples_of("double", double))
    assert examples_of("failures", failures) == []
