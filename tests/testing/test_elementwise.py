"""Wrong elementwise cells are found by their checks."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

import seqjax as sj
from seqjax.models import LRU, ComplexState, IndRNN, MinGRU
from seqjax.models.elementwise import Elementwise
from seqjax.testing.checking import run_checks
from seqjax.testing.compare import Failed, Skipped
from seqjax.testing.elementwise import check_affine, check_complex, check_feeds, check_stable, check_units


@dataclass(frozen=True)
class ReadsNeighbour(MinGRU):
    def cell(self, u, state):
        return super().cell(u, state._replace(h=0.9 * state.h + 0.1 * jnp.roll(state.h, 1, -1)))


@dataclass(frozen=True)
class NotAffine(MinGRU):
    def cell(self, u, state):
        return super().cell(u, state._replace(h=jnp.tanh(state.h)))


@dataclass(frozen=True)
class CompiledLRU(LRU):
    """An LRU that draws its parameters in one program."""

    def init_cell(self, key):
        return jax.jit(LRU.init_cell, static_argnums=0)(self, key)  # also inside of another jit


@dataclass(frozen=True)
class Swapped(CompiledLRU):
    def cell(self, u, state, nu, theta, gamma):
        re, im = super().cell(u, state, nu, theta, gamma)
        return ComplexState(im, re)


@dataclass(frozen=True)
class Unstable(CompiledLRU):
    def cell(self, u, state, nu, theta, gamma):
        return (
            super()
            .cell(u, state, jnp.log(jnp.abs(nu)), theta, gamma)
            ._replace(re=nu * state.re - theta * state.im + u[..., : self.hidden])
        )


@dataclass(frozen=True)
class GrowsWithInput(MinGRU):
    def cell(self, u, state):
        z, n = jnp.split(u, 2, -1)
        return self.State(jnp.exp(z) * state.h + n)


@dataclass(frozen=True)
class StableButNotAffine(Elementwise):
    stable = True

    def cell(self, u, state):
        return self.State(jnp.tanh(u + state.h))


@dataclass(frozen=True)
class IgnoresWeights(MinGRU):
    def unroll_in(self, dtype, params, state, xs, edge_weights):
        return super().unroll_in(dtype, params, state, xs, None)


@dataclass(frozen=True)
class SharesInputs(MinGRU):
    def cell(self, u, state):
        return super().cell(u - 0.1 * u.mean(-1, keepdims=True), state)


@dataclass(frozen=True)
class SharesParameters(Elementwise):
    def init_cell(self, key):
        return {"keep": jax.random.uniform(key, (self.hidden,))}

    def cell(self, u, state, keep):
        return self.State(keep.mean() * state.h + u)


@dataclass(frozen=True)
class OddWidth(MinGRU):
    @property
    def width(self):
        return 2 * self.hidden + 1

    def cell(self, u, state):
        return super().cell(u[..., :-1], state)


WRONG = {
    "units share inputs": (SharesInputs, check_feeds, "when what other units read changes"),
    "units share parameters": (SharesParameters, check_feeds, "when what other units read changes"),
    "more inputs than units": (OddWidth, check_feeds, "7 entries of u are no multiples of hidden = 3"),
    "a unit reads its neighbour": (ReadsNeighbour, check_units, "the states of other units change"),
    "not affine": (NotAffine, check_affine, "the new state, when the size of the old one is"),
    "a complex pair swapped": (Swapped, check_complex, "a product of complex numbers"),
    "an unstable lru": (Unstable, check_stable, "an eigenvalue of the recurrence has the size"),
    "a factor that grows with the input": (
        GrowsWithInput,
        check_stable,
        "an eigenvalue of the recurrence has the size",
    ),
    "stable without being affine": (StableButNotAffine, check_stable, "declare affine = True"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_cell_is_found(name, x64):
    cls, check, message = WRONG[name]
    with pytest.raises(Failed, match=message):
        check(cls(hidden=3))


NAMES = {
    check_units: "units read themselves alone",
    check_feeds: "units do not share what they read",
    check_affine: "affine recurrence",
    check_complex: "complex state",
    check_stable: "stable recurrence",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_cell_is_found_among_all_checks(name):
    cls, check, _ = WRONG[name]
    assert NAMES[check] in {line.check.name for line in run_checks(cls(hidden=3)) if line.fault}


@pytest.mark.slow
def test_an_unroll_without_edge_weights_is_found():
    assert "unroll is the scan of step" in {
        line.check.name for line in run_checks(IgnoresWeights(hidden=3)) if line.fault
    }


@dataclass(frozen=True)
class TwoFields(Elementwise):
    State = ComplexState

    def cell(self, u, state):
        return state


@dataclass(frozen=True)
class Narrow(MinGRU):
    def output(self, u, state):
        return state.h[..., :2]


@dataclass(frozen=True)
class TakesNone(MinGRU):
    def init_cell(self, key):
        return {"w": jnp.zeros(self.hidden)}


@dataclass(frozen=True)
class OtherShape(MinGRU):
    def cell(self, u, state):
        return self.State(u)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (TwoFields, "State must be a NamedTuple with a field h, the output of the layer"),
        (Narrow, r"output returned float.*\[2\], and must return float.*\[3\], output_blocks x hidden = 1 x 3 numbers"),
        (TakesNone, r"It is called as cell\(u, state, w\), since init_cell returns w"),
        (OtherShape, r"cell returned HiddenState with h = float.*\[6\], and must return float.*\[3\]"),
    ],
)
def test_what_does_not_fit_together_is_named(cls, message):
    with pytest.raises(sj.Error, match=message):
        sj.models.check.check_model(cls(hidden=3), sj.Spec(sj.Tokens(4)))


@pytest.mark.parametrize("check", [check_affine, check_complex, check_stable])
def test_what_is_not_declared_is_not_checked(check):
    with pytest.raises(Skipped):
        check(IndRNN(hidden=3))
