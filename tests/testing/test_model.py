"""The check of a model's own `unroll` accepts one that reads its edge weights, and names the faults of the others."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.slow import slow

from seqjax import Error, Model, Spec, Values, estimate
from seqjax.gradients import Full, Truncated, unroll
from seqjax.models import RNN
from seqjax.testing.model import checks
from seqjax.testing.proofs.cases import Elman

(CHECK,) = (check.function for check in checks(Elman()) if check.name == "unroll is the scan of step")


VALUES = Spec(Values(2))


@dataclass(frozen=True)
class Changed(Model):
    """A recurrent model whose own unroll changes the edge weights."""

    change = staticmethod(lambda edge_weights: edge_weights)

    def init(self, key, spec):
        if spec != VALUES:
            raise Error("it takes two values")
        return dict.fromkeys("WUV", jnp.ones((2, 2)))

    def init_state(self, params, spec, key=None):
        return jnp.zeros(2, params["U"].dtype)

    def step(self, params, h, x):
        h = jnp.tanh(x @ params["W"] + h @ params["U"])
        return h, h @ params["V"]

    def unroll(self, params, state, xs, edge_weights=None):
        edge_weights = None if edge_weights is None else self.change(edge_weights)
        return unroll(lambda h, x: self.step(params, h, x), state, xs, edge_weights)


def changed(f):
    return type("Mine", (Changed,), {"change": staticmethod(f)})()


def test_an_unroll_that_is_the_scan_passes():
    assert CHECK(Changed()).error < 1e-12


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda edge_weights: None, "ignores its edge weights"),
        *slow((lambda edge_weights: jnp.roll(edge_weights, 1, 0), r"edge weights \[6\].*worst relative error")),
    ],
    ids=["ignored", "one step late"],
)
def test_an_unroll_that_treats_edge_weights_wrongly_is_named(fault, message):
    with pytest.raises(Error, match=message):
        CHECK(changed(fault))


@jax.custom_jvp
def weighed_once(x, weight):
    """x, whose first tangent is multiplied by the weight, and whose tangent in a second derivative is not."""
    return x


@weighed_once.defjvp
def _weighed_once_tangent(primals, tangents):
    (x, weight), (dx, _) = primals, tangents
    return x, dx * weight


class WeighsOnce(Changed):
    """Its unroll leaves the weight out of second derivatives."""

    def unroll(self, params, state, xs, edge_weights=None):
        def body(h, inputs):
            x, weight = inputs
            if weight is not None:
                h = weighed_once(h, weight.reshape(-1, 1))
            return jax.vmap(self.step, (None, 0, 0))(params, h, x)

        return jax.lax.scan(body, state, (xs, edge_weights))


def test_a_weight_that_is_left_out_of_a_second_derivative_is_named():
    with pytest.raises(Error, match=r"edge weights \[6, 4\].*worst relative error"):
        CHECK(WeighsOnce())


@dataclass(frozen=True)
class Ignoring(RNN):
    """A network whose own unroll leaves the edge weights out."""

    def unroll_in(self, dtype, params, state, xs, edge_weights):
        return super().unroll_in(dtype, params, state, xs, None)


@pytest.mark.parametrize("model", [changed(lambda edge_weights: None), Ignoring(hidden=2)])
def test_a_strategy_refuses_an_unroll_that_ignores_edge_weights(model):
    problem = model.problem(VALUES)
    params = problem.init(jax.random.key(0))
    args = params, problem.init_rows(params, 1), (np.ones((4, 1, 2)), np.ones((4, 1, 2)))
    with pytest.raises(Error, match="the unroll of this problem ignores its edge weights"):
        jax.eval_shape(estimate(problem, Truncated(steps=2), batched=True), *args)
    jax.eval_shape(estimate(problem, Full(), batched=True), *args)  # it cuts nothing
