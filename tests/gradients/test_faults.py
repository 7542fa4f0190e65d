"""Each check fails for a strategy with the fault that it is made for."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from support import strategies as planted
from support.checks import CUTS

import seqjax
from seqjax.gradients import Memory
from seqjax.testing.proofs.arguments import check_arguments
from seqjax.testing.proofs.claims import (
    check_history,
    check_mean,
    check_unbiased,
    check_unbiased_history,
    check_values,
    check_window,
)
from seqjax.testing.proofs.draws import check_draw, check_rows_draw_apart
from seqjax.testing.proofs.rows import check_initial_state, check_padding, check_reset, check_rows, check_unscored
from seqjax.testing.proofs.second import check_second_derivatives
from seqjax.testing.proofs.uses import check_half, check_no_floats, check_scan, check_seeds, check_units

pytestmark = pytest.mark.usefixtures("x64")

SMALL, LEARNED, CELL = ["small"], ["learned"], ["cell"]


@jax.custom_batching.custom_vmap
def merged(grads):
    """The gradients; under vmap over seeds, their mean."""
    return grads


@merged.def_vmap
def _average(axis_size, in_batched, grads):
    mean = jax.tree.map(lambda a, batched: a.mean(0) if batched else a, grads, in_batched[0])
    return mean, jax.tree.map(lambda _: False, mean)


class MergesSeeds(planted.Full):
    """Has one gradient for all seeds that are trained side by side."""

    def estimate(self, *args):
        e = super().estimate(*args)
        return e._replace(grads=merged(e.grads))


class OfModels(planted.TwiceInTraining):
    """Takes the problems of models alone."""

    def init(self, problem, params, state, x=None):
        if getattr(problem, "model", None) is None:
            raise seqjax.Error("needs a model")
        return super().init(problem, params, state, x)


class SharedNoise(planted.Full):
    """Draws numbers that only its memory has. All rows draw the same."""

    def init(self, problem, params, state, x=None):
        return Memory(rows=jnp.zeros(()))

    def draw(self, key, problem, params, memory, num_steps):
        return jax.random.normal(key)

    def __call__(self, problem, params, state, memory, batch, key=None):
        return super().__call__(problem, params, state, memory, batch._replace(rows=0 * batch.rows), key)

    def estimate(self, problem, params, start, memory, batch, noise):
        return super().estimate(problem, params, start, memory, batch, ())._replace(memory=Memory(rows=noise))


@dataclass(frozen=True)
class Halves(seqjax.Influence):
    """Keeps half of J by units, and J where M is dense."""

    claim = "biased"

    def within_units(self, J):
        return J / 2

    def advance(self, carried, J, I):
        return jnp.diag(jnp.diag(J)) @ carried + I


FAULTS = {
    "1/π left out": lambda: check_unbiased(planted.Unweighted(keep_prob=0.6), cases=SMALL),
    "drawn with the mean probability": lambda: check_draw(planted.SmoothedDraw(keep_prob=(0.3, 0.9) * 3)),
    "1/π left out of whole calls": lambda: check_mean(planted.Unweighted(keep_prob=0.5), SMALL),
    "all rows draw the same": lambda: check_rows_draw_apart(planted.SharedDraw(keep_prob=0.5), SMALL),
    "edge weights one step late": lambda: check_window(planted.Shifted(steps=2), CUTS[2], SMALL),
    "states cut in the first derivative alone": lambda: check_second_derivatives(planted.CutsOnce(steps=2), SMALL),
    "learned state cut off": lambda: check_initial_state(planted.CutsTheEdge(steps=2), LEARNED),
    "gradient of the inputs lost": lambda: check_arguments(planted.LosesInputs(), SMALL),
    "memory dropped": lambda: check_history(planted.forgetful("rtrl"), SMALL),
    "UORO: memory dropped": lambda: check_unbiased_history(planted.forgetful("uoro"), SMALL),
    "memory of reset rows kept, seen in one call": lambda: check_reset(planted.NeverResets(), SMALL),
    "mean of shard means": lambda: check_rows(planted.Normalised(), SMALL),
    "weights ignored in the loss": lambda: check_values(planted.Unweighed(), SMALL),
    "padding counted": lambda: check_padding(planted.Unweighed(), SMALL),
    "0 times NaN": lambda: check_unscored(planted.Multiplies(), LEARNED),
    "nothing where no state is float": lambda: check_no_floats(planted.scaled(planted.has_float(jnp.inexact))),
    "another gradient in training": lambda: check_scan(planted.TwiceInTraining(), SMALL),
    "twice in float32 in a cell": lambda: check_half(planted.scaled(lambda p, s: 1 + (p.precision == "float32")), CELL),
    "another rule by units": lambda: check_units(Halves()),
    "one gradient for all seeds": lambda: check_seeds(MergesSeeds(), SMALL),
}
"""One fault for each check."""
SEEN = "worst relative error|not finite|chi-square|z-score|gradient|memory|ages after|not one of the outcomes|bfloat16"


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_seen(fault):
    with pytest.raises(seqjax.Error, match=SEEN):
        FAULTS[fault]()


def test_a_correct_strategy_passes():
    """The sum over three windows, of which some start anew."""
    assert check_history(planted.RTRL(), SMALL) < 1e-12


MORE = {
    "outputs one step late": lambda: check_arguments(planted.LateOutputs(), SMALL),
    "gradient of the state lost": lambda: check_arguments(planted.LosesTheStart(), SMALL),
    "all rows draw the same, seen in the memory": lambda: check_rows_draw_apart(SharedNoise(), SMALL),
    "a state of zeros cut off": lambda: check_window(planted.CutsAtRest(), cases=LEARNED),
    "another gradient in training of models": lambda: check_scan(OfModels(), LEARNED),
    "drawn once for all steps": lambda: check_draw(planted.RepeatedDraw(keep_prob=0.5)),
    "PES: accumulator dropped": lambda: check_unbiased_history(planted.forgetful("pes", particles=2), ["linear"]),
    "memory of reset rows kept": lambda: check_history(planted.NeverResets(), LEARNED),
    "a state of zeros of a cell cut off": lambda: check_window(planted.CutsAtRest(), cases=CELL),
    "0 times NaN in a cell": lambda: check_unscored(planted.Multiplies(), CELL),
    "twice in float32": lambda: check_half(planted.scaled(lambda *a: 1 + planted.has_float(jnp.float32)(*a))),
    "reset rows started outside": lambda: check_window(planted.StartsOutside(), cases=LEARNED),
    "drawn by local row": lambda: check_rows(planted.LocalRows(keep_prob=0.5), LEARNED),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", MORE)
def test_other_planted_faults_are_seen(fault):
    with pytest.raises(seqjax.Error, match=SEEN):
        MORE[fault]()
