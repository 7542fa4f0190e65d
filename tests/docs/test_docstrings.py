"""Docstrings as reStructuredText: what is plain text stays plain, and what is code is shown as code."""

import pytest
from docstrings import escape, to_rst

LINKS = {"Gradient": "seqjax.Gradient"}


def test_an_indented_block_is_literal_and_its_characters_are_kept():
    text = """Forward mode.

    M_t = J_t M_{t-1} * I_

    |M| = 1

It costs |M|.

Args:
    x: a number,
        or two.
    y: another one.

        y = x_"""
    expected = text.replace("mode.\n", "mode.\n\n::\n").replace("one.\n", "one.\n\n    ::\n")
    assert to_rst(text.splitlines(), {}) == expected.replace("costs |M|", r"costs \|M\|").splitlines()


def test_an_example_is_a_block_of_python_up_to_an_empty_line():
    text = """A sum.

>>> f(*x_)
x_ * |y|

It costs *.

Args:
    x: a number.

        >>> f(1)
        1"""
    assert to_rst(text.splitlines(), {}) == [
        "A sum.",
        "",
        ".. code-block:: pycon",
        "",
        "    >>> f(*x_)",
        "    x_ * |y|",
        "",
        r"It costs \*.",
        "",
        "Args:",
        "    x: a number.",
        "",
        "        .. code-block:: pycon",
        "",
        "            >>> f(1)",
        "            1",
    ]


@pytest.mark.parametrize(
    ("plain", "rst"),
    [
        ("a * b and **kwargs", r"a \* b and \*\*kwargs"),
        ("the norm |g| of h_t, not h_", r"the norm \|g\| of h_t, not h\_"),
        ("`a * b_` and `x`", "``a * b_`` and ``x``"),
        ("every `steps`-th of `Error`s", r"every ``steps``-th of ``Error``\ s"),
        ("a `Gradient`, as `Gradients`", "a :py:obj:`Gradient <seqjax.Gradient>`, as ``Gradients``"),
        ("B.", r"B\."),
    ],
)
def test_backticks_alone_are_markup(plain, rst):
    assert escape(plain, LINKS) == rst
