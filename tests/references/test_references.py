"""Gradient strategies beside public code, whose gradients of a small tanh network the scripts of this folder recorded.

Public code multiplies ∂l_t/∂s_t by its approximation of M_t = ds_t/dθ. In seqjax the loss of a step is a function of
the state before the step, ∂l_t/∂s_{t-1} meets M_{t-1}, and the last J on the way to a loss is whole. The two are the
same if the loss of step t - 1 is taken at step t, from the state that enters it. A `Comparison` says in which form
seqjax computes the problem:

- "scan": a scan body that is written in this way, with one further step at the end.
- "cell": a `ModelProblem` of a `Cell`, for strategies that read its structure. Its loss is cᵀ o_t, o_t = h_t is the
  output, and c_t = (J_tᵀ)⁻¹ ∂l_{t-1}/∂s_{t-1} is computed in numpy, so that ∂l_t/∂s_{t-1} is what "scan" has. The
  direct part cᵀ I_t is subtracted from the gradient.
- "after": a scan body whose loss is taken from the state after the step. Some public code does this, too.

A strategy is compared by adding a line to `COMPARISONS`. Its gradient has to be linear in the weights of the losses.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references.setting import AFTER, INPUTS, LEAKS, STEPS, UNITS, Setting, recorded

import seqjax
import seqjax_gradients.uoro
from seqjax import Cell, Spec, Values
from seqjax.gradients import Memory
from seqjax.testing.compare import assert_close, assert_far
from seqjax_gradients import RFLO, RTRL, UORO, Full, SnAp, Truncated
from seqjax_models import RNN

pytestmark = pytest.mark.usefixtures("x64")

LIBRARIES = ("sketched_rtrl", "vanilla_rtrl", "braintrace_rules", "jax_rtrl_cells")
LEAK = LEAKS["leaky"]


class Comparison(NamedTuple):
    """What is compared with what.

    Args:
        library: the name of a recorded file.
        rule: the name of a rule in it.
        strategy: the strategy of seqjax that is the same.
        forms: the forms of the problem, see above.
        after: the numbers of steps for which the sums agree.
        bound: the largest error, relative to the largest entry of the gradient.
    """

    library: str
    rule: str
    strategy: Any
    forms: tuple = ("scan", "cell")
    after: tuple = AFTER
    bound: float = 1e-12


COMPARISONS = [
    Comparison("sketched_rtrl", "rtrl", RTRL()),
    Comparison("sketched_rtrl", "sk-rtrl-6", RTRL()),
    Comparison("braintrace_rules", "snap-2, tanh", RTRL()),
    Comparison("jax_rtrl_cells", "rtrl, tanh", RTRL()),
    Comparison("vanilla_rtrl", "rtrl", RTRL()),
    Comparison("jax_rtrl_cells", "rtrl, leaky", RTRL()),
    Comparison("sketched_rtrl", "snap-1", SnAp(n=1)),
    Comparison("braintrace_rules", "snap-1, tanh", SnAp(n=1)),
    Comparison("braintrace_rules", "snap-1, leaky", SnAp(n=1)),
    Comparison("braintrace_rules", "snap-1, window", SnAp(n=1), ("after",)),
    Comparison("braintrace_rules", "snap-2, tanh", SnAp(n=2)),  # two steps reach all units: the weights are dense
    Comparison("jax_rtrl_cells", "eprop, leaky", SnAp(n=1)),
    Comparison("sketched_rtrl", "rflo", RFLO(leak=0.1)),
    Comparison("vanilla_rtrl", "rflo", RFLO(leak=LEAK)),
    Comparison("jax_rtrl_cells", "rflo, leaky", RFLO(leak=LEAK)),
    Comparison("braintrace_rules", "d-rtrl, tanh", RFLO(leak=1.0)),
    Comparison("braintrace_rules", "d-rtrl, leaky", RFLO(leak=LEAK)),
    Comparison("braintrace_rules", "e-prop 0, leaky", RFLO(leak=LEAK)),
    Comparison("vanilla_rtrl", "segments-12", Full(), ("after",), (12,)),  # its gradient comes at the end of a segment
    Comparison("vanilla_rtrl", "segments-4", Truncated(steps=4), ("after",), (12,)),
]

EXACT = {"rtrl", "sk-rtrl-6", "snap-2, tanh", "rtrl, tanh", "rtrl, leaky", "segments-12"}
"""The recorded rules that leave nothing out of this network."""


@dataclass(frozen=True)
class LeakyRNN(Cell):
    """The leaky network."""

    def cell(self, u, v, state):
        return self.State((1 - LEAK) * state.h + LEAK * jnp.tanh(u + v))


def sums(library, rule):
    """Number of steps -> the recorded sum of the gradients so far."""
    found = recorded(library)
    return dict(zip(found["after"], np.array(found["rules"][rule]["sums"]), strict=True))


def rows(grads):
    """A gradient like the parameters of seqjax as it is recorded: row i has the derivatives by W[i], U[i] and b[i]."""
    return np.concatenate([grads["W_hh"].T, grads["W_xh"].T, np.asarray(grads["b_h"])[:, None]], axis=1)


def params_of(rows):
    """The inverse of `rows`, for the parameters, too."""
    of_h, of_x, of_b = np.split(np.asarray(rows), [UNITS, UNITS + INPUTS], axis=1)
    return {"W_hh": jnp.asarray(of_h.T), "W_xh": jnp.asarray(of_x.T), "b_h": jnp.asarray(of_b[:, 0])}


def parameters(s):
    return params_of(np.concatenate([s.W, s.U, s.b[:, None]], axis=1))


@functools.cache
def scan_body(network, is_after):
    """A step of the network, which reads (x, y)."""
    s, alpha = Setting(), LEAKS[network]
    R, c = jnp.asarray(s.R), jnp.asarray(s.c)

    def step(params, h, inputs):
        x, y = inputs
        new = (1 - alpha) * h + alpha * jnp.tanh(h @ params["W_hh"] + x @ params["W_xh"] + params["b_h"])
        return new, jnp.sum(jnp.square(R @ (new if is_after else h) + c - y)) / 2

    return step


def inputs_of(is_after):
    """What the steps read, and where the losses begin."""
    s = Setting()
    if is_after:
        return (jnp.asarray(s.x), jnp.asarray(s.y)), 0
    more_x, more_y = np.zeros((1, INPUTS)), np.zeros((1, s.y.shape[1]))
    return (jnp.asarray(np.concatenate([s.x, more_x])), jnp.asarray(np.concatenate([more_y, s.y]))), 1


def in_windows(step_or_problem, strategy, params, state, xs, weights):
    """The sum of the gradients of consecutive windows, for strategies of the history; for others, of one window."""
    cuts = (0, 4, 8, len(weights)) if strategy.of == "history" else (0, len(weights))
    gradient, memory, found = compiled(step_or_problem, strategy), None, []
    for begin, end in itertools.pairwise(cuts):
        window = jax.tree.map(lambda a, begin=begin, end=end: a[begin:end], (xs, jnp.asarray(weights)))
        key = jax.random.key(begin) if strategy.draws else None
        estimate = gradient(params, state, window[0], memory=memory, weights=window[1], key=key)
        state, memory = estimate.state, estimate.memory
        found.append(estimate.grads)
    return jax.tree.map(lambda *each: sum(each), *found)


@functools.lru_cache(maxsize=1)
def compiled(step_or_problem, strategy):
    return jax.jit(seqjax.value_and_grad(step_or_problem, strategy, batched=False))


def by_scan(strategy, network, after, is_after=False):
    """The sums of gradients over the first steps, of a scan body, in the order of `after`."""
    xs, first = inputs_of(is_after)
    for count in after:
        weights = np.zeros(len(xs[0]))
        weights[first : first + count] = 1
        args = parameters(Setting()), jnp.asarray(Setting().h_0), xs, weights
        yield rows(in_windows(scan_body(network, is_after), strategy, *args))


def by_cell(strategy, network, after):
    """The same sums, of a `ModelProblem`."""
    s, alpha = Setting(), LEAKS[network]
    model = RNN(hidden=UNITS) if network == "tanh" else LeakyRNN(hidden=UNITS)
    problem = model.problem(Spec(Values(INPUTS), Values(UNITS)), loss=lambda output, c: output @ c)
    params = {"layer_0": parameters(s), "W_hq": jnp.eye(UNITS), "b_q": jnp.zeros(UNITS)}
    (xs, _), _ = inputs_of(is_after=False)
    h, cs, directs, of_h = s.h_0, [], [], np.zeros(UNITS)
    for t, x in enumerate(np.asarray(xs)):
        driven = np.tanh(s.W @ h + s.U @ x + s.b)
        slope = alpha * (1 - driven**2)
        J = (1 - alpha) * np.eye(UNITS) + slope[:, None] * s.W
        cs.append(np.linalg.solve(J.T, of_h))
        directs.append(np.outer(cs[-1] * slope, np.concatenate([h, x, [1]])))
        h = (1 - alpha) * h + alpha * driven
        of_h = s.R.T @ (s.R @ h + s.c - s.y[t]) if t < STEPS else None
    state = model.init_state(params, problem.spec)
    state = jax.tree.map(lambda a: jnp.asarray(s.h_0), state)
    for count in after:
        weights = (np.arange(STEPS + 1) <= count).astype(float)
        found = in_windows(problem, strategy, params, state, (xs, jnp.asarray(np.array(cs))), weights)
        yield rows(found["layer_0"]) - np.einsum("t,tij->ij", weights, np.array(directs))


FORMS = {"scan": by_scan, "cell": by_cell, "after": functools.partial(by_scan, is_after=True)}


@pytest.mark.parametrize(
    ("comparison", "form"),
    [(c, form) for c in COMPARISONS for form in c.forms],
    ids=lambda value: value if isinstance(value, str) else f"{value.library}-{value.rule}-{value.strategy}",
)
def test_the_gradient_is_that_of_public_code(comparison, form):
    library, rule, strategy, _, after, bound = comparison
    network = recorded(library)["rules"][rule]["network"]
    for count, found in zip(after, FORMS[form](strategy, network, after), strict=True):
        assert_close(found, sums(library, rule)[count], f"{rule} of {library} after {count} steps", bound)


UOROS = {
    "sketched_rtrl": ("uoro", False, False),
    "braintrace_rules": ("uoro, tanh", False, False),
    "braintrace_rules, leaky": ("uoro, leaky", False, False),
    "braintrace_rules, window": ("uoro, window", True, False),
    "vanilla_rtrl": ("uoro", False, True),
}
"""Library -> rule, whether its loss is that of the state after the step, whether s̃ and θ̃ start from given numbers."""


@pytest.mark.parametrize("name", UOROS)
def test_uoro_is_that_of_public_code_for_the_same_signs(name, monkeypatch):
    """Two things differ, and are made equal here.

    In a window of several steps, the norm of θ̃ is one that is expected, so windows of one step are compared. And what
    is added to the norms is 1e-7: public code adds 1e-12, or nothing, or replaces a norm below 1e-7 by 1e-7. Here it is
    so small that the start of a window changes nothing but rounding errors.
    """
    monkeypatch.setattr(seqjax_gradients.uoro, "SMALL", 1e-30)
    library, (rule, is_after, is_given) = name.partition(",")[0], UOROS[name]
    wanted, network = sums(library, rule), recorded(library)["rules"][rule]["network"]
    for count, found in zip(AFTER, uoro_sums(network, is_after, is_given), strict=True):
        assert_close(found, wanted[count], f"{rule} of {library} after {count} steps")


def test_uoro_with_what_it_adds_to_norms_is_nearly_that_of_public_code():
    for count, found in zip(AFTER, uoro_sums("tanh", False, False), strict=True):
        assert_close(found, sums("sketched_rtrl", "uoro")[count], f"uoro after {count} steps", 2e-3)


def uoro_sums(network, is_after, is_given):
    """The sums of gradients of UORO in windows of one step, for the signs of the setting."""
    s, strategy = Setting(), UORO()
    problem = seqjax.Problem(scan_body(network, is_after))
    (xs, ys), first = inputs_of(is_after)
    params, h = parameters(s), jnp.asarray(s.h_0)
    memory = strategy.init(problem, params, h)
    if is_given:
        memory = jax.tree.map(lambda a: a[None], Memory(rows=(jnp.asarray(s.s_0), params_of(s.theta_0))))

    @jax.jit
    def window(h, memory, x, y, nu):
        noise = jnp.stack([jnp.ones(UNITS, bool), nu > 0])[None]
        return strategy.one(problem, params, lambda _: h, memory, (x[None], y[None]), jnp.ones(1), noise)[1:]

    total = np.zeros((UNITS, UNITS + INPUTS + 1))
    for t in range(len(xs)):
        grads, h, memory = window(h, memory, xs[t], ys[t], jnp.asarray(s.signs[min(t, STEPS - 1)]))
        if t >= first:
            total = total + rows(grads)
            if t + 1 - first in AFTER:
                yield total


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_records_are_of_this_problem(library):
    found = recorded(library)
    assert found["setting"] == Setting().digest(), "run the scripts of this folder again"
    assert found["versions"].keys() >= {"python", "numpy"}
    assert found["commit"] or "braintrace" in found["versions"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_approximations_differ_from_the_exact_gradient(library):
    exact = {"tanh": sums("sketched_rtrl", "rtrl")[STEPS], "leaky": sums("vanilla_rtrl", "rtrl")[STEPS]}
    for rule, found in recorded(library)["rules"].items():
        check = assert_close if rule in EXACT else functools.partial(assert_far, at_least=1e-2)
        check(sums(library, rule)[STEPS], exact[found["network"]], f"{rule} of {library}")
