"""`check_unroll` accepts an unroll that reads its edge weights, and names the faults of the others."""

from dataclasses import dataclass

import jax.numpy as jnp
import pytest
from support.cells import MGU

from seqjax import Error, Model, Spec, Tokens, Values, value_and_grad
from seqjax.gradients import unroll
from seqjax.testing import check_unroll
from seqjax.testing.cases import Elman
from seqjax_gradients import Discounted, Full, Truncated
from seqjax_models import MLP, NGram


@dataclass(frozen=True)
class Changed(Model):
    """A recurrent model whose own unroll changes the edge weights."""

    hidden: int = 2

    def init(self, key, spec):
        shapes = {"W": (spec.inputs.width, self.hidden), "U": (self.hidden, self.hidden)}
        return {name: jnp.ones(shape) for name, shape in shapes.items()} | {"V": jnp.ones((self.hidden, 1))}

    def init_state(self, params, spec, key=None):
        return jnp.zeros(self.hidden, params["U"].dtype)

    def step(self, params, h, x):
        h = jnp.tanh(x @ params["W"] + h @ params["U"])
        return h, h @ params["V"]

    def unroll(self, params, state, xs, edge_weights=None):
        edge_weights = None if edge_weights is None else self.change(edge_weights)
        return unroll(lambda h, x: self.step(params, h, x), state, xs, edge_weights)

    def change(self, edge_weights):
        return edge_weights


def changed(f):
    return type("Mine", (Changed,), {"change": lambda self, edge_weights: f(edge_weights)})()


VALUES = Spec(Values(2), Values(1))


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        (Changed(), VALUES),
        pytest.param(Elman(hidden=3), Spec(Tokens(4)), marks=pytest.mark.slow),
        pytest.param(MGU(hidden=3, layers=2), VALUES, marks=pytest.mark.slow),
        pytest.param(MLP(lags=2, hidden=3), VALUES, marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_an_unroll_that_is_the_scan_passes(model, spec):
    assert check_unroll(model, spec) < 1e-12


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda edge_weights: None, "ignores its edge weights"),
        (lambda edge_weights: jnp.roll(edge_weights, 1, 0), r"edge weights \[5\].*worst relative error"),
    ],
    ids=["ignored", "one step late"],
)
def test_an_unroll_that_treats_edge_weights_wrongly_is_named(fault, message):
    with pytest.raises(Error, match=message):
        check_unroll(changed(fault), VALUES)


def test_a_count_based_model_has_nothing_to_check():
    with pytest.raises(Error, match="NGram is count-based"):
        check_unroll(NGram(), Spec(Tokens(4)))


@pytest.mark.parametrize("strategy", [Truncated(steps=2), Discounted(discount=0.5)], ids=repr)
def test_a_strategy_refuses_an_unroll_that_ignores_edge_weights(strategy):
    problem = changed(lambda edge_weights: None).problem(VALUES)
    params, state = problem.init(None), jnp.zeros((1, 2))
    xs = jnp.ones((4, 1, 2)), jnp.ones((4, 1, 1))
    with pytest.raises(Error, match="the unroll of this problem ignores its edge weights"):
        value_and_grad(problem, strategy)(params, state, xs)
    assert value_and_grad(problem, Full())(params, state, xs).loss > 0  # it cuts nothing
