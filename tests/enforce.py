"""What enforces the annotations of our packages while the suite runs; see conftest.py."""

from beartype import beartype


def enforce(f):
    """Beartype, but for the `__init__` that `dataclass` generates: a plugin converts what its fields are given."""
    generated = getattr(getattr(f, "__code__", None), "co_filename", "") == "<string>"
    return f if generated else beartype(f)
