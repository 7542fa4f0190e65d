"""An exception is reported as the mistake of the plugin that raised it, and of no other."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error, Problem, estimate, train
from seqjax.data import Stream
from seqjax.gradients import Immediate, Truncated
from seqjax.optimizers import SGD
from seqjax.plugin.author import Mistake, mistakes_of
from seqjax.samplers import Sequential
from seqjax.training.optimizer import Optimizer, build

XS = np.ones((40, 3), np.float32)
W = np.ones(2, np.float32)
STREAM = Stream(XS, XS, [0, len(XS)])


def fails(params, state, x):
    return params @ jnp.ones(99), state


@pytest.mark.parametrize("strategy", [Immediate(), Truncated(steps=2)], ids=repr)
def test_the_step_of_a_user_is_no_mistake_of_the_strategy(strategy):
    """The strategy calls the step, so that its file is in the traceback too."""
    with pytest.raises(Error, match=r"^the step raises TypeError: ") as caught:
        estimate(fails, strategy, batched=True)(W, np.zeros((4, 2), np.float32), np.ones((6, 4, 3), np.float32))
    assert isinstance(caught.value.__cause__, TypeError)
    assert not isinstance(caught.value, Mistake)
    problem = Problem(fails, lambda params, key=None: jnp.zeros(2))
    with pytest.raises(TypeError) as caught:
        train(problem, STREAM, sampler=Sequential(2, 5), gradient=strategy, optimizer=SGD(), epochs=1, params=W)
    assert not isinstance(caught.value, Mistake)


@pytest.mark.parametrize(
    "fault", [MemoryError(), OSError(28, "No space left on device"), ValueError("RESOURCE_EXHAUSTED")]
)
def test_what_no_author_can_mend_passes_unchanged(fault):
    with pytest.raises(type(fault)) as caught, mistakes_of(SGD()):
        raise fault
    assert caught.value is fault


@dataclass(frozen=True)
class Exits(Optimizer):
    build = lambda self, num_updates: helper()


@dataclass(frozen=True)
class Short(Optimizer):
    build = lambda self: None


@dataclass(frozen=True)
class Empty(Optimizer):
    pass


def helper():
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (Exits(), r"build raises SystemExit: 3\n.*raise SystemExit\(3\)\nIt is called as build\(num_updates\)$"),
        (Short(), r"build raises TypeError: .* but 2 were given\n(.*\n)?It is called as build\("),
        (Empty(), r"build raises NotImplementedError: the method build is missing"),
    ],
)
def test_the_method_of_an_author_is_named(optimizer, words):
    """Although it is a lambda, calls a function that is no method, or is not there."""
    with pytest.raises(Mistake, match=words), mistakes_of(optimizer):
        build(optimizer, 3)
