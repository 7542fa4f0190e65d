"""An exception is reported as the mistake of the plugin that raised it, and of no other."""

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Problem, train, value_and_grad
from seqjax.data import Stream
from seqjax.plugin.author import Mistake, calling, tracing
from seqjax_gradients import Immediate, Truncated
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential

XS = np.ones((40, 3), np.float32)
W = np.ones(2, np.float32)
STREAM = Stream(XS, XS, [0, len(XS)])


def fails(params, state, x):
    return params @ jnp.ones(99), state


@pytest.mark.parametrize("strategy", [Immediate(), Truncated(steps=2)], ids=repr)
def test_the_step_of_a_user_is_no_mistake_of_the_strategy(strategy):
    """The strategy calls the step, so that its file is in the traceback too."""
    with pytest.raises(TypeError) as caught:
        value_and_grad(fails, strategy)(W, np.zeros((4, 2), np.float32), np.ones((6, 4, 3), np.float32))
    assert not isinstance(caught.value, Mistake)
    problem = Problem(fails, lambda params, key=None: jnp.zeros(2))
    with pytest.raises(TypeError) as caught:
        train(problem, STREAM, sampler=Sequential(2, 5), gradient=strategy, optimizer=SGD(), epochs=1, params=W)
    assert not isinstance(caught.value, Mistake)


@pytest.mark.parametrize(
    "fault", [MemoryError(), OSError(28, "No space left on device"), ValueError("RESOURCE_EXHAUSTED")]
)
def test_what_no_author_can_mend_passes_unchanged(fault):
    for context in (calling(SGD(), "build"), tracing(SGD())):
        with pytest.raises(type(fault)) as caught, context:
            raise fault
        assert caught.value is fault


def test_an_exit_is_a_mistake():
    with pytest.raises(Mistake, match="optimizer sgd: build raises SystemExit: 3"), calling(SGD(), "build"):
        raise SystemExit(3)
