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
- "readout": a `ModelProblem` of a `Cell` with the read-out and the loss of the setting, for strategies that multiply
  ∂l_t/∂s_t by what they carry after step t, as the public code does. Nothing has to be subtracted.

A strategy is compared by adding a line to `COMPARISONS`. Its gradient has to be linear in the weights of the losses.
Strategies that draw, or that learn something themselves, have tests of their own.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references.setting import AFTER, INPUTS, LEAKS, OUTPUTS, STEPS, UNITS, Setting, recorded
from references.test_definitions import steps, with_units
from support.slow import slow

import seqjax
import seqjax_gradients.influence.kf_rtrl
import seqjax_gradients.influence.uoro
from seqjax import Cell, Spec, Values
from seqjax.gradients import (
    DNI,
    KFRTRL,
    OK,
    RFLO,
    RTRL,
    SKRTRL,
    UORO,
    EProp,
    Full,
    KeRNL,
    Memory,
    SnAp,
    Truncated,
    init_memory,
    leaf_names,
)
from seqjax.models import RNN
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.influence.kernl import Kernel
from seqjax_gradients.reverse.dni import Synthetic

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
        slow: the forms that only the long suite computes.
        after: the numbers of steps for which the sums agree.
    """

    library: str
    rule: str
    strategy: Any
    forms: tuple = ("scan", "cell")
    slow: tuple = ()
    after: tuple = AFTER


COMPARISONS = [
    Comparison("sketched_rtrl", "rtrl", RTRL(), slow=("scan",)),
    Comparison("sketched_rtrl", "sk-rtrl-6", RTRL(), slow=("scan",)),
    Comparison("braintrace_rules", "snap-2, tanh", RTRL(), slow=("scan",)),
    Comparison("jax_rtrl_cells", "rtrl, tanh", RTRL(), slow=("scan",)),
    Comparison("vanilla_rtrl", "rtrl", RTRL(), slow=("scan", "cell")),
    Comparison("jax_rtrl_cells", "rtrl, leaky", RTRL(), slow=("scan", "cell")),
    Comparison("sketched_rtrl", "snap-1", SnAp(n=1), slow=("cell",)),
    Comparison("braintrace_rules", "snap-1, tanh", SnAp(n=1), slow=("cell",)),
    Comparison("braintrace_rules", "snap-1, leaky", SnAp(n=1), slow=("scan", "cell")),
    Comparison("braintrace_rules", "snap-1, window", SnAp(n=1), ("after",), slow=("after",)),
    # Two steps reach all units: the weights are dense.
    Comparison("braintrace_rules", "snap-2, tanh", SnAp(n=2), slow=("scan",)),
    Comparison("jax_rtrl_cells", "eprop, leaky", SnAp(n=1), slow=("scan", "cell")),
    Comparison("sketched_rtrl", "snap-1", SKRTRL(rank=0), ("cell",), slow=("cell",)),
    Comparison("sketched_rtrl", "sk-rtrl-2", SKRTRL(rank=2), ("cell",)),
    Comparison("sketched_rtrl", "sk-rtrl-4", SKRTRL(rank=4), ("cell",), slow=("cell",)),
    Comparison("sketched_rtrl", "sk-rtrl-6", SKRTRL(rank=6), ("cell",), slow=("cell",)),
    # No matrix needs more products than it has rows.
    Comparison("sketched_rtrl", "rtrl", OK(rank=UNITS), slow=("scan", "cell")),
    Comparison("sketched_rtrl", "rflo", RFLO(leak=0.1), slow=("cell",)),
    Comparison("vanilla_rtrl", "rflo", RFLO(leak=LEAK), slow=("scan",)),
    Comparison("jax_rtrl_cells", "rflo, leaky", RFLO(leak=LEAK), slow=("scan",)),
    Comparison("braintrace_rules", "d-rtrl, tanh", RFLO(leak=1.0), slow=("scan", "cell")),
    Comparison("braintrace_rules", "d-rtrl, leaky", RFLO(leak=LEAK), slow=("scan",)),
    Comparison("braintrace_rules", "e-prop 0, leaky", RFLO(leak=LEAK), slow=("scan",)),
    Comparison("braintrace_rules", "d-rtrl, tanh", EProp(), ("readout",), slow=("readout",)),
    Comparison("braintrace_rules", "d-rtrl, leaky", EProp(), ("readout",), slow=("readout",)),
    Comparison("braintrace_rules", "e-prop 0, leaky", EProp(), ("readout",), slow=("readout",)),
    Comparison("braintrace_rules", "e-prop 0.5, tanh", EProp(kappa=0.5), ("readout",)),
    Comparison("braintrace_rules", "e-prop 0.5, leaky", EProp(kappa=0.5), ("readout",), slow=("readout",)),
    # The gradient of a segment comes at its end.
    Comparison("vanilla_rtrl", "segments-12", Full(), ("after",), slow=("after",), after=(12,)),
    Comparison("vanilla_rtrl", "segments-4", Truncated(steps=4), ("after",), after=(12,)),
]

EXACT = {"rtrl", "sk-rtrl-6", "snap-2, tanh", "rtrl, tanh", "rtrl, leaky", "segments-12"}
"""The recorded rules that leave nothing out of this network."""


@dataclass(frozen=True)
class LeakyRNN(Cell):
    """The leaky network."""

    def cell(self, u, v, state):
        return self.State((1 - LEAK) * state.h + LEAK * jnp.tanh(u + v))


def by_count(values):
    """Number of steps -> the value for it, of values in the order of `AFTER`."""
    return dict(zip(AFTER, values, strict=True))


def sums(library, rule):
    """Number of steps -> the recorded sum of the gradients so far."""
    return by_count(np.array(recorded(library)["rules"][rule]["sums"]))


def rows(grads):
    """A gradient like the parameters of seqjax as it is recorded: row i has the derivatives by W[i], U[i] and b[i]."""
    of_h, of_x, of_b = (np.asarray(grads[name]) for name in ("W_hh", "W_xh", "b_h"))
    return np.concatenate([of_h.swapaxes(-1, -2), of_x.swapaxes(-1, -2), of_b[..., None]], axis=-1)


def params_of(rows):
    """The inverse of `rows`, for the parameters, too."""
    of_h, of_x, of_b = np.split(np.asarray(rows), [UNITS, UNITS + INPUTS], axis=1)
    return {"W_hh": of_h.T, "W_xh": of_x.T, "b_h": of_b[:, 0]}


def parameters(s):
    return params_of(np.concatenate([s.W, s.U, s.b[:, None]], axis=1))


def scan_body(network, is_after):
    """A step of the network, which reads (x, y)."""
    s, alpha = Setting(), LEAKS[network]

    def step(params, h, inputs):
        x, y = inputs
        new = (1 - alpha) * h + alpha * jnp.tanh(h @ params["W_hh"] + x @ params["W_xh"] + params["b_h"])
        return new, jnp.sum(jnp.square(jnp.asarray(s.R) @ (new if is_after else h) + s.c - y)) / 2

    return step


def inputs_of(is_after):
    """What the steps read, and where the losses begin."""
    s = Setting()
    if is_after:
        return (s.x, s.y), 0
    return (np.concatenate([s.x, np.zeros((1, INPUTS))]), np.concatenate([np.zeros((1, OUTPUTS)), s.y])), 1


def in_windows(problem, strategy, params, state, xs, weights, shared=None):
    """The sums of the gradients of two windows, for strategies of the history; for others, of one window.

    Args:
        problem: the problem.
        strategy: the strategy.
        params: the parameters.
        state: the state before the first step.
        xs: what the steps read.
        weights: the weights of the losses, a row for each sum.
        shared: what the first memory shares; None: what it starts with.
    """
    count = 2 if strategy.of == "history" else 1
    gradient = seqjax.estimate(problem, strategy)

    def windows(a):
        """[windows, steps, ...], so that one program serves all windows; a last step may be added, of weight 0."""
        a = np.concatenate([a, a[: len(a) % count] * 0])
        return a.reshape(count, -1, *a.shape[1:])

    @quick_jit
    def run(params, state, xs, weights, shared):
        first = jax.tree.map(lambda a: a[0, 0], xs)
        memory = init_memory(strategy, problem, params, jax.tree.map(lambda a: a[None], state), 1, first)
        memory = memory if shared is None else memory._replace(shared=shared)
        keys = jax.random.split(jax.random.key(0), count) if strategy.draws else None

        def window(carry, inputs):
            (state, memory), (xs, weights, key) = carry, inputs
            found = gradient(params, state, xs, memory=memory, weights=weights, key=key)
            return (found.state, found.memory), found.grads

        def one(weights):
            grads = jax.lax.scan(window, (state, memory), (xs, weights, keys))[1]
            return jax.tree.map(lambda a: a.sum(0), grads)

        return jax.lax.map(one, weights)

    return run(params, state, jax.tree.map(windows, xs), np.stack([*map(windows, weights)]), shared)


def first_losses(num_steps, first=0):
    """Weights of the first losses, from one step on: a row for each number of `AFTER`."""
    return np.array([[first <= t < first + count for t in range(num_steps)] for count in AFTER], float)


def by_scan(strategy, network, is_after=False):
    """The sums of gradients over the first steps, of a scan body, in the order of `AFTER`."""
    xs, first = inputs_of(is_after)
    args = parameters(Setting()), Setting().h_0, xs, first_losses(len(xs[0]), first)
    return rows(in_windows(seqjax.Problem(scan_body(network, is_after)), strategy, *args))


def model_of(network):
    return RNN(hidden=UNITS) if network == "tanh" else LeakyRNN(hidden=UNITS)


def first_state(problem, params):
    state = jax.eval_shape(lambda: problem.model.init_state(params, problem.spec))
    return jax.tree.map(lambda a: Setting().h_0, state)


def cell_problem(network):
    """The problem of the form "cell": (problem, parameters, what the steps read, cᵀ I_t of each step)."""
    s, alpha = Setting(), LEAKS[network]
    problem = model_of(network).problem(Spec(Values(INPUTS), Values(UNITS)), loss=lambda output, c: output @ c)
    params = {"layer_0": parameters(s), "W_hq": np.eye(UNITS), "b_q": np.zeros(UNITS)}
    (xs, _), _ = inputs_of(is_after=False)
    h, cs, directs, of_h = s.h_0, [], [], np.zeros(UNITS)
    for t, x in enumerate(xs):
        driven = np.tanh(s.W @ h + s.U @ x + s.b)
        slope = alpha * (1 - driven**2)
        J = (1 - alpha) * np.eye(UNITS) + slope[:, None] * s.W
        cs.append(np.linalg.solve(J.T, of_h))
        directs.append(np.outer(cs[-1] * slope, np.concatenate([h, x, [1]])))
        h = (1 - alpha) * h + alpha * driven
        of_h = s.R.T @ (s.R @ h + s.c - s.y[t]) if t < STEPS else None
    return problem, params, (xs, np.array(cs)), np.array(directs)


def by_cell(strategy, network, shared=None):
    """The same sums, of a `ModelProblem`; `shared` is as in `in_windows`."""
    problem, params, xs, directs = cell_problem(network)
    weights = np.array([np.arange(STEPS + 1) <= count for count in AFTER], float)
    found = in_windows(problem, strategy, params, first_state(problem, params), xs, weights, shared)
    return rows(found["layer_0"]) - np.einsum("nt,tij->nij", weights, directs)


def by_readout(strategy, network):
    """The same sums, of a `ModelProblem` whose read-out is that of the setting."""
    s = Setting()
    spec = Spec(Values(INPUTS), Values(OUTPUTS))
    problem = model_of(network).problem(spec, loss=lambda output, y: jnp.sum(jnp.square(output - y)) / 2)
    params = {"layer_0": parameters(s), "W_hq": s.R.T, "b_q": s.c}
    args = params, first_state(problem, params), (s.x, s.y), first_losses(STEPS)
    return rows(in_windows(problem, strategy, *args)["layer_0"])


FORMS = {"scan": by_scan, "cell": by_cell, "after": functools.partial(by_scan, is_after=True), "readout": by_readout}


@functools.cache
def computed(strategy, network, form):
    """Number of steps -> the sum of the gradients so far, of seqjax."""
    return by_count(FORMS[form](strategy, network))


@pytest.mark.parametrize(
    ("comparison", "form"),
    [
        pytest.param(
            c, form, marks=[pytest.mark.slow] * (form in c.slow), id=f"{c.library}-{c.rule}-{c.strategy}-{form}"
        )
        for c in COMPARISONS
        for form in c.forms
    ],
)
def test_the_gradient_is_that_of_public_code(comparison, form):
    library, rule, strategy, _, _, after = comparison
    found, wanted = computed(strategy, recorded(library)["rules"][rule]["network"], form), sums(library, rule)
    assert_close({n: found[n] for n in after}, {n: wanted[n] for n in after}, f"{rule} of {library} after steps")


def test_rflo_with_random_feedback_is_that_of_public_code_for_the_same_weights(monkeypatch):
    """The random weights are replaced by those that the public code was given."""

    def normal(key, shape, dtype):
        assert shape == (UNITS, OUTPUTS)
        return jnp.asarray(Setting().feedback.T * UNITS**0.5, dtype)

    monkeypatch.setattr(jax.random, "normal", normal)
    found = by_readout(RFLO(leak=LEAK, feedback="random"), "leaky")
    assert_close(by_count(found), sums("vanilla_rtrl", "rflo, feedback"), "rflo after steps")


@pytest.mark.parametrize("rank", [2, *slow(4)])
def test_the_certificate_of_sk_rtrl_lies_between_the_true_error_and_that_of_public_code(rank):
    """It bounds |J| by its largest singular value, and the public code by norms that are larger."""
    problem, params, xs, _ = cell_problem("tanh")
    strategy = SKRTRL(rank=rank)
    gradient = quick_jit(seqjax.estimate(problem, strategy))
    state = first_state(problem, params)
    memory = quick_jit(lambda: init_memory(strategy, problem, params, jax.tree.map(lambda a: a[None], state), 1))()
    published = recorded("sketched_rtrl")["rules"][f"sk-rtrl-{rank}"]["certificate"]
    true = np.zeros((UNITS, UNITS, UNITS + INPUTS + 1))
    for step in steps(LEAKS["tanh"]):
        x = jax.tree.map(lambda a, t=step.t: a[t : t + 1], xs)
        estimate = gradient(params, state, x, memory=memory, weights=np.ones(1))
        state, memory = estimate.state, estimate.memory
        own, L, R, bound = jax.tree.map(lambda a: np.asarray(a)[0], memory.rows)
        names = [name.removeprefix("layer_0.") for name, _ in leaf_names({"layer_0": params["layer_0"]}, "")]
        own, R = (dict(zip(names, by_unit, strict=True)) for by_unit in (own, R))
        M = with_units(matrix_rows(own, 0)) + sum(np.multiply.outer(L[:, r], matrix_rows(R, r)) for r in range(rank))
        true = np.einsum("ij,jkp->ikp", step.J, true) + with_units(np.outer(step.D, step.f))
        assert np.linalg.norm(M - true) <= bound * (1 + 1e-9) + 1e-15
        assert bound <= published[step.t] * (1 + 1e-7) + 1e-15
    assert bound < 0.9 * published[-1]


def matrix_rows(by_unit, index):
    """Like `rows`, from leaves [numbers, n, hidden]."""
    found = {name: a[index] for name, a in by_unit.items()}
    return rows(found | {"b_h": found["b_h"][0]})


@pytest.mark.parametrize("library", ["vanilla_rtrl", *slow("sketched_rtrl")])
def test_kf_rtrl_is_that_of_public_code_for_the_same_signs(library, monkeypatch):
    """In public code one product holds all weights, so here they are one matrix, which multiplies [h, x, 1].

    Public code draws two signs. One that both factors have does not change their product, so what counts is the sign
    of one term relative to the other. What is added to the norms is 1e-7; public code adds nothing, or replaces a norm
    below 1e-7 by 1e-7.
    """
    monkeypatch.setattr(seqjax_gradients.influence.kf_rtrl, "SMALL", 1e-30)
    s, strategy, network = Setting(), KFRTRL(), recorded(library)["rules"]["kf-rtrl"]["network"]
    params, h = np.concatenate([s.W, s.U, s.b[:, None]], 1).T, s.h_0
    problem, (xs, first) = joint_problem(network), inputs_of(is_after=False)
    noise, overall = [], 1.0
    for step in steps(LEAKS[network]):
        one, two = s.signs[step.t, :2]
        noise.append(one * two * overall > 0)
        overall = one * overall

    @quick_jit
    def gradients(params, h, xs, weights, noise):
        memory = strategy.init(problem, params, h, jax.tree.map(lambda a: a[0], xs))
        if library == "vanilla_rtrl":
            (zeros,) = memory.rows
            memory = Memory(rows=[zeros._replace(u=zeros.u.at[0].set(s.A_0), A=zeros.A.at[0, :, :UNITS].set(s.B_0))])
        one = lambda weights: strategy.one(problem, params, lambda _: h, memory, xs, weights, noise)[1]
        return jax.vmap(one)(weights)

    found = gradients(params, h, xs, first_losses(STEPS + 1, first), np.array([*noise, True])[:, None])
    assert_close(by_count(map(np.transpose, found)), sums(library, "kf-rtrl"), f"kf-rtrl of {library} after steps")


def joint_problem(network):
    """The problem of the form "scan" with one matrix, float[units + inputs + 1, units]."""
    body = scan_body(network, False)

    def step(W, h, inputs):
        _, loss = body(parameters(Setting()), h, inputs)
        driven = jnp.tanh(jnp.concatenate([h, inputs[0], jnp.ones(1)]) @ W)
        return (1 - LEAKS[network]) * h + LEAKS[network] * driven, loss

    return seqjax.Problem(step)


@pytest.mark.parametrize(("strategy", "count"), [(OK(rank=2), 3), *slow((KFRTRL(), 6), (OK(rank=1), 6))], ids=str)
def test_the_mean_over_all_signs_is_the_exact_gradient_of_public_code(strategy, count):
    (xs, ys), first = inputs_of(False)
    problem, window = seqjax.Problem(scan_body("tanh", False)), (xs[: count + 1], ys[: count + 1])

    @quick_jit
    def gradients(params, h, window, weights):
        memory = strategy.init(problem, params, h, jax.tree.map(lambda a: a[0], window))
        noises, probabilities = strategy.outcomes(problem, params, memory, count + 1)
        one = lambda noise: strategy.one(problem, params, lambda _: h, memory, window, weights, noise)[1]
        return jax.vmap(one)(noises), probabilities

    grads, probabilities = gradients(
        parameters(Setting()), Setting().h_0, window, (np.arange(count + 1) >= first) * 1.0
    )
    wanted, each = sums("sketched_rtrl", "rtrl")[count], rows(grads)
    assert_close(np.tensordot(probabilities, each, 1), wanted, f"the mean of {strategy}")
    assert_far(each[0], wanted, f"one estimate of {strategy}", 1e-2)


def test_kernl_is_that_of_public_code_for_a_given_kernel():
    """Only its gradient: what is learned differs, as the docstring of KeRNL says."""
    found = recorded("vanilla_rtrl")["rules"]["kernl, fixed"]
    kernel = Kernel(np.array(found["matrix"]), np.array(found["rates"]))
    grads = by_count(by_cell(KeRNL(rate=0.0), "leaky", kernel))
    assert_close(grads, sums("vanilla_rtrl", "kernl, fixed"), "kernl after steps")


def test_dni_is_that_of_public_code_where_its_weights_are_changed_in_the_same_order():
    """Windows of one step, with the target y_t as a part of the state, which the synthetic gradient reads.

    Public code changes W first, by plain gradient descent, and then takes the gradient. Here a first call gives the
    change of W, from which the division by the squared norm is taken back, and a second call gives the gradient. No
    loss reads the first state, so it is counted with a factor of zero.
    """
    s, found, params = Setting(), recorded("vanilla_rtrl")["rules"]["dni"], parameters(Setting())
    body = scan_body("leaky", False)

    def step(params, state, inputs):
        (h, y_before), (x, y, factor) = state, inputs
        new, loss = body(params, h, (x, y_before))
        return (new, y), factor * loss

    gradient = quick_jit(seqjax.estimate(step, DNI(rate=0.5)))
    W = np.concatenate([s.synthetic_0, np.zeros((OUTPUTS, s.synthetic_0.shape[1]))])  # the state is (h, y)
    state, total, wanted = (s.h_0, s.y[0]), 0.0, sums("vanilla_rtrl", "dni")
    for t in range(STEPS):
        x = (s.x[t : t + 1], s.y[t : t + 1], np.full(1, float(t > 0)))

        def call(W, state=state, x=x):
            memory = Memory(shared=Synthetic(W, np.zeros(()), np.zeros(())))
            return gradient(params, state, x, memory=memory, weights=np.ones(1))

        size = 1 + sum(np.sum(np.square(part)) for part in state)
        W = W + found["learning rate"] * size / 0.5 * (np.asarray(call(W).memory.shared.W) - W)
        estimate = call(W)
        state, total = estimate.state, total + rows(estimate.grads)
        if t + 1 in AFTER:
            assert_close(total, wanted[t + 1], f"dni after {t + 1} steps")
    assert_close(W[:UNITS], np.array(found["last A"]), "the weights of the synthetic gradient")


UOROS = {
    "sketched_rtrl": ("uoro", False, False),
    "braintrace_rules": ("uoro, tanh", False, False),
    "braintrace_rules, leaky": ("uoro, leaky", False, False),
    "braintrace_rules, window": ("uoro, window", True, False),
    "vanilla_rtrl": ("uoro", False, True),
}
"""Library -> rule, whether its loss is that of the state after the step, whether s̃ and θ̃ start from given numbers."""


@pytest.mark.parametrize("name", ["vanilla_rtrl", *slow(*sorted(UOROS.keys() - {"vanilla_rtrl"}))])
def test_uoro_is_that_of_public_code_for_the_same_signs(name):
    """Two things differ, and are made equal here.

    In a window of several steps, the norm of θ̃ is one that is expected, so windows of one step are compared. And what
    is added to the norms is 1e-7: public code adds 1e-12, or nothing, or replaces a norm below 1e-7 by 1e-7. Here it is
    so small that the start of a window changes nothing but rounding errors.
    """
    library, (rule, is_after, is_given) = name.partition(",")[0], UOROS[name]
    wanted, network = sums(library, rule), recorded(library)["rules"][rule]["network"]
    assert_close(uoro_sums(network, is_after, is_given, 1e-30), wanted, f"{rule} of {library} after steps")


def test_uoro_with_what_it_adds_to_norms_is_nearly_that_of_public_code():
    found = uoro_sums("tanh", False, False, seqjax_gradients.influence.uoro.SMALL)
    assert_close(found, sums("sketched_rtrl", "uoro"), "uoro after steps", 2e-3)


@functools.cache
def uoro_sums(network, is_after, is_given, small):
    """The sums of gradients of UORO in windows of one step, for the signs of the setting; `small` is added to norms."""
    s, strategy = Setting(), UORO()
    problem = seqjax.Problem(scan_body(network, is_after))
    (xs, ys), first = inputs_of(is_after)
    signs = np.concatenate([s.signs, s.signs[-1:]])[: len(xs)]

    @quick_jit
    def run(params, h, inputs):
        def window(carry, inputs):
            (h, memory), (x, y, nu) = carry, inputs
            noise = jnp.stack([jnp.ones(UNITS, bool), nu > 0])[None]
            _, grads, *carry = strategy.one(
                problem, params, lambda _: h, memory, (x[None], y[None]), jnp.ones(1), noise
            )
            return tuple(carry), grads

        memory = strategy.init(problem, params, h)
        if is_given:
            memory = jax.tree.map(lambda a: jnp.asarray(a)[None], Memory(rows=(s.s_0, params_of(s.theta_0))))
        return jax.lax.scan(window, (h, memory), inputs)[1]

    with mock.patch.object(seqjax_gradients.influence.uoro, "SMALL", small):
        grads = rows(run(parameters(s), s.h_0, (xs, ys, signs)))
    return by_count(grads[first : first + count].sum(0) for count in AFTER)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_records_are_of_this_problem(library):
    found = recorded(library)
    assert found["setting"] == Setting().digest(), "run the scripts of this folder again"
    assert found["versions"].keys() >= {"python", "numpy"}
    assert tuple(found["after"]) == AFTER
    assert found["commit"] or "braintrace" in found["versions"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_approximations_differ_from_the_exact_gradient(library):
    exact = {"tanh": sums("sketched_rtrl", "rtrl")[STEPS], "leaky": sums("vanilla_rtrl", "rtrl")[STEPS]}
    for rule, found in recorded(library)["rules"].items():
        check = assert_close if rule in EXACT else functools.partial(assert_far, at_least=1e-2)
        check(sums(library, rule)[STEPS], exact[found["network"]], f"{rule} of {library}")
