"""The cases of the proofs: their oracle takes the steps of their problem."""

import jax
import pytest

from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.cases import case


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["cell", "values", "learned"])
def test_the_step_of_the_oracle_is_that_of_the_problem(name):
    c = case(name)
    first = jax.tree.map(lambda a: a[0], c.windows[0].xs)
    state, losses_B = jax.vmap(c.step, (None, 0, 0))(c.params, c.state, first)
    found = c.problem.unroll(c.params, c.state, jax.tree.map(lambda a: a[None], first))
    assert_close(found[1][0], losses_B, name)
    assert jax.tree.map(jax.typeof, found[0]) == jax.tree.map(jax.typeof, state)
