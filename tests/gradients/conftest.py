"""The programs of these tests are tiny: compiling them is all their cost."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def compile_quickly(quick_compilation):
    """In all of them."""
