"""What an accelerator computes, on a CPU."""

import contextlib
from collections.abc import Iterator

import jax
import pytest


@contextlib.contextmanager
def as_on_an_accelerator() -> Iterator[None]:
    """What is traced in this context takes the ways of accelerators, wherever a CPU has one of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
        yield
