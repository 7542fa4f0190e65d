"""The example that asks how many iterations a gradient must see."""

import re
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from support.shell import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "depth.py"


def test_the_answers_are_the_parities_of_the_bits_so_far():
    inputs, parities = runpy.run_path(str(EXAMPLE))["draw"]()
    assert len({tuple(bits) for bits in inputs}) == 2**12
    for bits, answers in zip(inputs[:50], parities, strict=False):
        assert answers.tolist() == [sum(bits[:n]) % 2 for n in (3, 6, 9, 12)]


@pytest.mark.slow
def test_a_bit_travels_one_position_in_an_iteration():
    example = runpy.run_path(str(EXAMPLE))
    params = example["init"](jax.random.key(0))["iteration"]
    bits = np.zeros(12, np.float32)
    for first in (0, 3):
        s = [np.zeros((12, 16), np.float32)] * 2
        for n in range(1, 4):
            s = [
                example["iterate"](params, each, b)
                for each, b in zip(s, (bits, bits + (np.arange(12) == first)), strict=True)
            ]
            changed = np.flatnonzero(np.abs(s[0] - s[1]).max(1) > 0)
            assert changed.tolist() == list(range(max(0, first - n + 1), first + n))


@pytest.mark.slow
def test_all_gradients_are_compared():
    done = run([sys.executable, EXAMPLE, "--seeds", 1, "--updates", 8])
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\S+(?: \d)?) +right", done.stdout, re.M) == [
        "all",
        "last 8",
        "last 4",
        "last 3",
        "last 2",
        "last 1",
        "implicit",
    ]
    assert done.stdout.count("a bias of 5 % needs") == 5
