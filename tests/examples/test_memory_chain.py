"""The chain shows its bit once and pays for it once, and the agent learns to name it."""

import re
import runpy
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from support.shell import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "memory_chain.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


@pytest.mark.parametrize(("bit", "last", "wanted"), [(1, 1, 1), (1, 0, -1), (0, 0, 1), (0, 1, -1)])
def test_an_episode_computed_by_hand(example, bit, last, wanted):
    chain, seen, rewards, ends = example["Chain"](jnp.zeros((), int), jnp.asarray(bit)), [], [], []
    for action in (1, 0, 1, last):
        seen.append(example["observe"](chain, 4))
        chain, reward, ended = example["move"](chain, jnp.asarray(action), 4)
        rewards.append(reward)
        ends.append(ended)
    assert np.array_equal(seen, [[1, 2 * bit - 1], [0.75, 0], [0.5, 0], [0.25, 0]])
    assert np.array_equal(rewards, [0, 0, 0, wanted])
    assert np.array_equal(ends, [False, False, False, True])


def test_with_rtrl_the_agent_learns_a_short_chain(example):
    returns = example["live"](example["GRADIENTS"]["rtrl"], length=4, num_seeds=2, num_updates=4000)
    assert returns.shape == (2, 1000)
    assert np.abs(returns[:, :20].mean()) < 0.5, "at first the agent guesses"
    assert returns[:, -100:].mean(1).min() > 0.9


@pytest.mark.slow
def test_all_gradients_are_compared_and_drawn(tmp_path):
    figure = tmp_path / "chain.png"
    few = ("--lengths", 3, "--seeds", 2, "--updates", 60)
    done = run([sys.executable, EXAMPLE, *few, "--figure", figure])
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^length +3  (\S+) +median +\S+  seeds +\S+ +\S+ +\d+ s$", done.stdout, re.M)
    assert lines == ["rtrl", "truncated(1)", "rolling(4)", "rolling(16)", "rolling(64)"]
    assert figure.stat().st_size > 1000
