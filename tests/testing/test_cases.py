"""The cases of the proofs: their oracle takes the steps of their problem."""

import jax
import numpy as np
import pytest

from seqjax.gradients.steps.floats import split_float
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.cases import REST, B, case
from seqjax.testing.quick_jit import quick_jit


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["cell", "values", "learned"])
def test_the_step_of_the_oracle_is_that_of_the_problem(name):
    """A row that rests after a reset stays at zero, so that a gradient that stops there is found."""
    c = case(name)

    @quick_jit
    def both(params, state, xs):
        by_step = jax.vmap(c.step, (None, 0, 0))(params, state, jax.tree.map(lambda a: a[0], xs))
        first, rest = (jax.tree.map(lambda a, n=n: a[:n], xs) for n in (1, REST))
        rested = c.problem.unroll(params, c.problem.init_rows(params, B), rest)[0]
        return c.problem.unroll(params, state, first), by_step, split_float(rested)[0]

    (after, losses_TB), (want_after, want_B), rested = both(c.params, c.state, c.windows[0].xs)
    assert not any(np.asarray(a)[0].any() for a in rested)
    assert_close(losses_TB, np.asarray(want_B)[None], name)
    assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, want_after)
