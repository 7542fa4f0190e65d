"""A wrapper passes on everything that it does not define."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.gradients import ARTBP, LearnedHazard, Memory, Truncated
from seqjax.testing.quick_jit import quick_jit

PASSED_ON = ("claim", "of", "argnums", "rounds", "for_one_step", "by_sequence", "metric_names", "draws")


@dataclass(frozen=True)
class Same(sj.Wrapping):
    strategy: sj.Gradient = Truncated()


def step(w, s, x):
    s = jnp.tanh(w * s + x)
    return s, s**2


@pytest.mark.parametrize("name", sj.names("gradient"))
def test_what_a_strategy_says_of_itself_is_passed_on(name):
    strategy = sj.create("gradient", name)
    for attribute in PASSED_ON:
        assert getattr(Same(strategy), attribute) == getattr(strategy, attribute), attribute


def test_hazards_are_checked_inside_of_a_wrapper():
    class Wrong(ARTBP):
        def hazard(self, age, shared):
            return jnp.where(age == 2, 1.5, 0.1)

    strategy = Same(Same(Wrong()))
    with pytest.raises(sj.Error, match=r"hazard\(2\) = 1.5, and the probability of a cut"):
        strategy.check_values(Memory(), 4)


def test_two_windows_of_a_random_strategy_with_a_memory_are_those_of_the_strategy():
    xs = np.random.default_rng(0).normal(size=(2, 12)).astype(np.float32)

    @quick_jit
    def both(xs):
        w, keys, found = jnp.array(0.9), jax.random.split(jax.random.key(0)), []
        for strategy in (LearnedHazard(max_lag=4, every=1), Same(LearnedHazard(max_lag=4, every=1))):
            state, memory, of_windows = jnp.zeros(()), None, []
            for x, key in zip(xs, keys, strict=True):
                e = sj.estimate(step, strategy)(w, state, x, memory=memory, key=key)
                state, memory = e.state, e.memory
                of_windows.append((e, strategy.metrics(memory)))
            found.append(of_windows)
        return found

    one, other = jax.device_get(both(xs))
    assert jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_a_scan_takes_no_wrapper_that_does_not_define_it():
    with pytest.raises(sj.Error, match=r"Same.* needs the losses of the steps"):
        sj.scan(lambda s, x: (s, s), 0.0, np.ones(3), gradient=Same())
