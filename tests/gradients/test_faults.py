"""Each check fails for a strategy with the fault that it is made for."""

import jax
import jax.numpy as jnp
import pytest
from support import strategies as planted
from support.checks import CUTS, check_ages, check_edge_weights

import seqjax
from seqjax.testing.proofs.arguments import check_arguments
from seqjax.testing.proofs.cases import case
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
from seqjax.testing.proofs.uses import check_half, check_no_floats, check_scan, check_seeds

pytestmark = pytest.mark.usefixtures("x64")

ONE = ["learned"]


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


FAULTS = {
    "1/π left out": lambda: check_unbiased(planted.Unweighted(keep_prob=0.6), cases=ONE),
    "1/(1 - hazard) left out": lambda: check_unbiased(planted.UnweightedCuts(), cases=ONE),
    "edges weighed at another age": lambda: check_unbiased(planted.YoungWeights(), cases=ONE),
    "age dropped": lambda: check_ages(planted.ForgetsAge()),
    "drawn at another age": lambda: check_draw(planted.YoungDraw()),
    "drawn with the mean probability": lambda: check_draw(planted.SmoothedDraw(keep_prob=(0.3, 0.9) * 3)),
    "drawn once for all steps": lambda: check_draw(planted.RepeatedDraw(keep_prob=0.5)),
    "1/π left out of whole calls": lambda: check_mean(planted.Unweighted(keep_prob=0.5), ["small"]),
    "all rows draw the same": lambda: check_rows_draw_apart(planted.SharedDraw(keep_prob=0.5)),
    "edge weights one step late": lambda: check_window(planted.Shifted(steps=2), CUTS[2], ONE),
    "edge weight at the window's edge": lambda: check_window(planted.CutsTheEdge(steps=2), CUTS[2], ONE),
    "learned state cut off": lambda: check_initial_state(planted.CutsTheEdge(steps=2), ONE),
    "outputs one step late": lambda: check_arguments(planted.LateOutputs(), ["foreign"]),
    "gradient of the state lost": lambda: check_arguments(planted.LosesTheStart(), ["foreign"]),
    "gradient of the inputs lost": lambda: check_arguments(planted.LosesInputs(), ["foreign"]),
    "rest of the window forgotten": lambda: check_window(planted.ForgetsTheRest(steps=4), CUTS[4], ONE),
    "memory dropped": lambda: check_history(planted.forgetful("rtrl"), ONE),
    "UORO: memory dropped": lambda: check_unbiased_history(planted.forgetful("uoro"), ["small"]),
    "UORO: another product": lambda: check_unbiased_history(planted.WrongProduct(), ["small"]),
    "UORO: one sign for all units": lambda: check_draw(planted.OneSign()),
    "PES: accumulator dropped": lambda: check_unbiased_history(planted.forgetful("pes", particles=2), ["linear"]),
    "memory of reset rows kept": lambda: check_history(planted.NeverResets(), ONE),
    "memory of reset rows kept, seen in one call": lambda: check_reset(planted.NeverResets(), ONE),
    "reset rows started outside": lambda: check_window(planted.StartsOutside(), cases=ONE),
    "weights ignored": lambda: check_window(planted.Unweighed(), cases=ONE),
    "mean of shard means": lambda: check_rows(planted.Normalised(), ONE),
    "weights ignored in the loss": lambda: check_values(planted.Unweighed(), ONE),
    "padding counted": lambda: check_padding(planted.Unweighed(), ONE),
    "0 times NaN": lambda: check_unscored(planted.Multiplies(), ONE),
    "the same at every call": lambda: check_rows_draw_apart(planted.FixedDraw(keep_prob=0.5)),
    "nothing where no state is float": lambda: check_no_floats(planted.scaled(planted.has_float(jnp.inexact))),
    "another gradient in training": lambda: check_scan(planted.TwiceInTraining()),
    "twice in float32": lambda: check_half(planted.scaled(lambda *a: 1 + planted.has_float(jnp.float32)(*a))),
    "one gradient for all seeds": lambda: check_seeds(MergesSeeds(), ONE),
    "drawn by local row": lambda: check_rows(planted.LocalRows(keep_prob=0.5), ONE),
}
QUICK = {
    "1/π left out",
    "age dropped",
    "drawn with the mean probability",
    "1/π left out of whole calls",
    "all rows draw the same",
    "edge weights one step late",
    "outputs one step late",
    "gradient of the state lost",
    "gradient of the inputs lost",
    "rest of the window forgotten",
    "learned state cut off",
    "memory dropped",
    "UORO: memory dropped",
    "memory of reset rows kept, seen in one call",
    "mean of shard means",
    "weights ignored in the loss",
    "padding counted",
    "0 times NaN",
    "nothing where no state is float",
    "another gradient in training",
    "twice in float32",
    "one gradient for all seeds",
}
"""One fault for each check."""
SEEN = "worst relative error|not finite|chi-square|z-score|gradient|ages after|not one of the outcomes|bfloat16"
UNROLLS = {
    "edge weights one step late": lambda edge_weights: jnp.roll(edge_weights, 1, 0),
    "edge weights ignored": jnp.ones_like,
    "edge weights of another row": lambda edge_weights: (
        jnp.roll(edge_weights, 1, 1) if edge_weights.ndim == 2 else edge_weights
    ),
    "edge weights rounded to cuts": jnp.sign,
}


@pytest.mark.parametrize("fault", [pytest.param(f, marks=[pytest.mark.slow] * (f not in QUICK)) for f in FAULTS])
def test_planted_fault_is_seen(fault):
    with pytest.raises(seqjax.Error, match=SEEN):
        FAULTS[fault]()


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=[pytest.mark.slow] * (f != "edge weights ignored")) for f in UNROLLS]
)
def test_planted_fault_in_an_unroll_is_seen(fault):
    with pytest.raises(seqjax.Error, match="worst relative error"):
        check_edge_weights(planted.FaultyUnroll(case("learned").problem, UNROLLS[fault]), "learned")
