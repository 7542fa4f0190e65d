"""What the reverse pass of one step of a cell keeps, counted, and its cotangents against those of `jax.vjp`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.cells import PeepholeLSTM

import seqjax as sj
from seqjax.models import GRU, LSTM, RNN
from seqjax.models.cell_step import cell_step
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

B, H = 3, 4


@dataclass(frozen=True)
class Decaying(sj.Cell):
    """A cell that reads h and constants, and whose own parameter is used through a function of it."""

    def init_cell(self, key):
        return {"w": jnp.ones(self.hidden)}

    def cell(self, u, v, state, w):
        rate = jnp.exp(w) * jnp.linspace(0.5, 1, self.hidden, dtype=u.dtype)
        return self.State(rate * state.h * jnp.tanh(u + v))


@dataclass(frozen=True)
class Relu(sj.Cell):
    """A cell whose derivative reads one bool of each unit."""

    def cell(self, u, v, state):
        return self.State(jax.nn.relu(u + v))


KEPT = {
    # The output itself is all that is read.
    RNN: ({"new": 1}, 1),
    # tanh of three blocks, v of the third one, and the state before the step.
    GRU: ({"kept": 4, "old": 1}, 5),
    # tanh of four blocks in one array, tanh of c, c before the step, and the factors in the tanh; and h is stacked.
    LSTM: ({"kept": 2, "old": 1, "fixed": 1}, 7),
    # exp(w) is the same at all steps.
    Decaying: ({"kept": 1, "old": 1, "fixed": 1}, 2),
    # Whether u + v is positive, and h: 1 and 8 bytes. The derivative on the other side is zero at all steps.
    Relu: ({"kept": 1, "fixed": 1}, 9 / 8),
}
"""The number of residuals in each place, and the bytes of a unit that a step stacks, by those of a number."""


def step_and_arguments(model):
    """The step of a cell in float64, and its arguments."""
    rng = np.random.default_rng(0)
    drawn = lambda *shape: rng.normal(size=shape)
    u, v = (drawn(B, model.blocks * H) for _ in range(2))
    old, dnew = (model.State(*[drawn(B, H) for _ in model.State._fields]) for _ in range(2))
    own = jax.tree.map(lambda a: drawn(*a.shape), jax.eval_shape(model.init_cell, jax.random.key(0)))
    return (lambda u, v, old, own: model.cell(u, v, old, **own)), (u, v, old, own), dnew


@pytest.mark.parametrize("cls", [*KEPT, PeepholeLSTM])
def test_a_step_keeps_what_its_reverse_pass_cannot_compute_cheaply(cls, x64):
    cell, arguments, dnew = step_and_arguments(cls(hidden=H))
    steps = []

    @quick_jit
    def both(u, v, old, own):
        step = cell_step(cell, u, v, old, own)
        steps.append(step)
        new, kept = step.run(u, v, old)
        found = step.layout.pull_back({"fixed": step.fixed, "old": old, "new": new, "kept": kept}, dnew)
        want, vjp = jax.vjp(cell, u, v, old, own)
        return (new, found), (want, vjp(dnew))

    got, want = both(*arguments)
    assert_close(got, want, "a step")
    if cls in KEPT:
        places = [place for place, _ in steps[0].layout.sources]
        assert ({place: places.count(place) for place in places}, steps[0].size / (B * H * 8)) == KEPT[cls]


@pytest.mark.parametrize(("cls", "one"), [(RNN, True), (LSTM, True), (GRU, False)])
def test_a_cell_that_reads_the_sum_of_u_and_v_has_one_cotangent_for_both(cls, one):
    cell, arguments, dnew = step_and_arguments(cls(hidden=H))
    seen = []

    def pull_back(u, v, old, own):
        step = cell_step(cell, u, v, old, own)
        new, kept = step.run(u, v, old)
        du, dv, *_ = step.layout.pull_back({"fixed": step.fixed, "old": old, "new": new, "kept": kept}, dnew)
        seen.append(du is dv)
        return du

    jax.eval_shape(pull_back, *arguments)
    assert seen == [one]
