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
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references.setting import AFTER, INPUTS, LEAKS, OUTPUTS, STEPS, UNITS, Setting, recorded
from references.test_definitions import steps, with_units

import seqjax
import seqjax_gradients.kf_rtrl
import seqjax_gradients.uoro
from seqjax import Cell, Spec, Values
from seqjax.gradients import Memory, init_memory
from seqjax.testing.compare import assert_close, assert_far
from seqjax_gradients import DNI, KFRTRL, OK, RFLO, RTRL, SKRTRL, UORO, EProp, Full, KeRNL, SnAp, Truncated
from seqjax_gradients.dni import Synthetic
from seqjax_gradients.kernl import Kernel
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
    Comparison("sketched_rtrl", "snap-1", SKRTRL(rank=0), ("cell",)),
    Comparison("sketched_rtrl", "sk-rtrl-2", SKRTRL(rank=2), ("cell",)),
    Comparison("sketched_rtrl", "sk-rtrl-4", SKRTRL(rank=4), ("cell",)),
    Comparison("sketched_rtrl", "sk-rtrl-6", SKRTRL(rank=6), ("cell",)),
    Comparison("sketched_rtrl", "rtrl", OK(rank=UNITS)),  # no matrix needs more products than it has rows
    Comparison("sketched_rtrl", "rflo", RFLO(leak=0.1)),
    Comparison("vanilla_rtrl", "rflo", RFLO(leak=LEAK)),
    Comparison("jax_rtrl_cells", "rflo, leaky", RFLO(leak=LEAK)),
    Comparison("braintrace_rules", "d-rtrl, tanh", RFLO(leak=1.0)),
    Comparison("braintrace_rules", "d-rtrl, leaky", RFLO(leak=LEAK)),
    Comparison("braintrace_rules", "e-prop 0, leaky", RFLO(leak=LEAK)),
    Comparison("braintrace_rules", "d-rtrl, tanh", EProp(), ("readout",)),
    Comparison("braintrace_rules", "d-rtrl, leaky", EProp(), ("readout",)),
    Comparison("braintrace_rules", "e-prop 0, leaky", EProp(), ("readout",)),
    Comparison("braintrace_rules", "e-prop 0.5, tanh", EProp(kappa=0.5), ("readout",)),
    Comparison("braintrace_rules", "e-prop 0.5, leaky", EProp(kappa=0.5), ("readout",)),
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


def in_windows(step_or_problem, strategy, params, state, xs, weights, memory=None):
    """The sum of the gradients of consecutive windows, for strategies of the history; for others, of one window."""
    cuts = (0, 4, 8, len(weights)) if strategy.of == "history" else (0, len(weights))
    gradient, found = compiled(step_or_problem, strategy), []
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


def model_of(network):
    return RNN(hidden=UNITS) if network == "tanh" else LeakyRNN(hidden=UNITS)


def first_state(problem, params):
    return jax.tree.map(lambda a: jnp.asarray(Setting().h_0), problem.model.init_state(params, problem.spec))


def cell_problem(network):
    """The problem of the form "cell": (problem, parameters, what the steps read, cᵀ I_t of each step)."""
    s, alpha = Setting(), LEAKS[network]
    problem = model_of(network).problem(Spec(Values(INPUTS), Values(UNITS)), loss=lambda output, c: output @ c)
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
    return problem, params, (xs, jnp.asarray(np.array(cs))), np.array(directs)


def by_cell(strategy, network, after, shared=None):
    """The same sums, of a `ModelProblem`; `shared` is what the memory shares, if it is given."""
    problem, params, xs, directs = cell_problem(network)
    state, memory = first_state(problem, params), None
    if shared is not None:
        memory = init_memory(strategy, problem, params, jax.tree.map(lambda a: a[None], state), 1)
        memory = memory._replace(shared=shared)
    for count in after:
        weights = (np.arange(STEPS + 1) <= count).astype(float)
        found = in_windows(problem, strategy, params, state, xs, weights, memory)
        yield rows(found["layer_0"]) - np.einsum("t,tij->ij", weights, directs)


def by_readout(strategy, network, after):
    """The same sums, of a `ModelProblem` whose read-out is that of the setting."""
    s = Setting()
    spec = Spec(Values(INPUTS), Values(OUTPUTS))
    problem = model_of(network).problem(spec, loss=lambda output, y: jnp.sum(jnp.square(output - y)) / 2)
    params = {"layer_0": parameters(s), "W_hq": jnp.asarray(s.R.T), "b_q": jnp.asarray(s.c)}
    xs = jnp.asarray(s.x), jnp.asarray(s.y)
    for count in after:
        weights = (np.arange(STEPS) < count).astype(float)
        yield rows(in_windows(problem, strategy, params, first_state(problem, params), xs, weights)["layer_0"])


FORMS = {"scan": by_scan, "cell": by_cell, "after": functools.partial(by_scan, is_after=True), "readout": by_readout}


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


def test_rflo_with_random_feedback_is_that_of_public_code_for_the_same_weights(monkeypatch):
    """The random weights are replaced by those that the public code was given."""

    def normal(key, shape, dtype):
        assert shape == (UNITS, OUTPUTS)
        return jnp.asarray(Setting().feedback.T * UNITS**0.5, dtype)

    monkeypatch.setattr(jax.random, "normal", normal)
    strategy, wanted = RFLO(leak=LEAK, feedback="random"), sums("vanilla_rtrl", "rflo, feedback")
    for count, found in zip(AFTER, by_readout(strategy, "leaky", AFTER), strict=True):
        assert_close(found, wanted[count], f"rflo after {count} steps")


@pytest.mark.parametrize("rank", [2, 4])
def test_the_certificate_of_sk_rtrl_lies_between_the_true_error_and_that_of_public_code(rank):
    """It bounds |J| by its largest singular value, and the public code by norms that are larger."""
    problem, params, xs, _ = cell_problem("tanh")
    gradient, state, memory = compiled(problem, SKRTRL(rank=rank)), first_state(problem, params), None
    published = recorded("sketched_rtrl")["rules"][f"sk-rtrl-{rank}"]["certificate"]
    true = np.zeros((UNITS, UNITS, UNITS + INPUTS + 1))
    for step in steps(LEAKS["tanh"]):
        x = jax.tree.map(lambda a, t=step.t: a[t : t + 1], xs)
        estimate = gradient(params, state, x, memory=memory, weights=jnp.ones(1))
        state, memory = estimate.state, estimate.memory
        own, L, R, bound = jax.tree.map(lambda a: np.asarray(a)[0], memory.rows)
        M = with_units(matrix_rows(own, 0)) + sum(np.multiply.outer(L[:, r], matrix_rows(R, r)) for r in range(rank))
        true = np.einsum("ij,jkp->ikp", step.J, true) + with_units(np.outer(step.D, step.f))
        assert np.linalg.norm(M - true) <= bound * (1 + 1e-9) + 1e-15
        assert bound <= published[step.t] * (1 + 1e-7) + 1e-15
    assert bound < 0.9 * published[-1]


def matrix_rows(by_unit, index):
    """Like `rows`, from leaves [numbers, n, hidden]."""
    found = {name: a[index] for name, a in by_unit.items()}
    return rows(found | {"b_h": found["b_h"][0]})


@pytest.mark.parametrize("library", ["sketched_rtrl", "vanilla_rtrl"])
def test_kf_rtrl_is_that_of_public_code_for_the_same_signs(library, monkeypatch):
    """In public code one product holds all weights, so here they are one matrix, which multiplies [h, x, 1].

    Public code draws two signs. One that both factors have does not change their product, so what counts is the sign
    of one term relative to the other. What is added to the norms is 1e-7; public code adds nothing, or replaces a norm
    below 1e-7 by 1e-7.
    """
    monkeypatch.setattr(seqjax_gradients.kf_rtrl, "SMALL", 1e-30)
    s, strategy, network = Setting(), KFRTRL(), recorded(library)["rules"]["kf-rtrl"]["network"]
    params, h = jnp.asarray(np.concatenate([s.W, s.U, s.b[:, None]], 1).T), jnp.asarray(s.h_0)
    problem, (xs, first) = joint_problem(network), inputs_of(is_after=False)
    memory = strategy.init(problem, params, h)
    if library == "vanilla_rtrl":
        (zeros,) = memory.rows
        memory = Memory(rows=[zeros._replace(u=zeros.u.at[0].set(s.A_0), A=zeros.A.at[0, :, :UNITS].set(s.B_0))])
    noise, overall = [], 1.0
    for step in steps(LEAKS[network]):
        one, two = s.signs[step.t, :2]
        noise.append(one * two * overall > 0)
        overall = one * overall
    noise = jnp.asarray([*noise, True])[:, None]

    @jax.jit
    @jax.vmap
    def gradient(weights):
        return strategy.one(problem, params, lambda _: h, memory, xs, weights, noise)[1]

    t = np.arange(STEPS + 1)
    found = gradient(jnp.asarray([(t >= first) & (t <= count) for count in AFTER], float))
    for count, total in zip(AFTER, found, strict=True):
        assert_close(total.T, sums(library, "kf-rtrl")[count], f"kf-rtrl of {library} after {count} steps")


def joint_problem(network):
    """The problem of the form "scan" with one matrix, float[units + inputs + 1, units]."""
    body = scan_body(network, False)

    def step(W, h, inputs):
        _, loss = body(parameters(Setting()), h, inputs)
        driven = jnp.tanh(jnp.concatenate([h, inputs[0], jnp.ones(1)]) @ W)
        return (1 - LEAKS[network]) * h + LEAKS[network] * driven, loss

    return seqjax.Problem(step)


@pytest.mark.parametrize(("strategy", "count"), [(KFRTRL(), 6), (OK(rank=1), 6), (OK(rank=2), 3)], ids=str)
def test_the_mean_over_all_signs_is_the_exact_gradient_of_public_code(strategy, count):
    (xs, ys), first = inputs_of(False)
    problem, params, h = seqjax.Problem(scan_body("tanh", False)), parameters(Setting()), jnp.asarray(Setting().h_0)
    window = xs[: count + 1], ys[: count + 1]
    memory, weights = strategy.init(problem, params, h), jnp.ones(count + 1).at[:first].set(0)
    noises, probabilities = strategy.outcomes(problem, params, memory, count + 1)

    @jax.jit
    @jax.vmap
    def gradient(noise):
        return strategy.one(problem, params, lambda _: h, memory, window, weights, noise)[1]

    grads = gradient(noises)
    wanted = sums("sketched_rtrl", "rtrl")[count]
    mean = jax.tree.map(lambda a: jnp.tensordot(probabilities, a, 1), grads)
    assert_close(rows(mean), wanted, f"the mean of {strategy}")
    assert_far(rows(jax.tree.map(lambda a: a[0], grads)), wanted, f"one estimate of {strategy}", 1e-2)


def test_kernl_is_that_of_public_code_for_a_given_kernel():
    """Only its gradient: what is learned differs, as the docstring of KeRNL says."""
    found = recorded("vanilla_rtrl")["rules"]["kernl, fixed"]
    kernel = Kernel(jnp.asarray(found["matrix"]), jnp.asarray(found["rates"]))
    wanted = sums("vanilla_rtrl", "kernl, fixed")
    for count, grads in zip(AFTER, by_cell(KeRNL(rate=0.0), "leaky", AFTER, kernel), strict=True):
        assert_close(grads, wanted[count], f"kernl after {count} steps")


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

    gradient = jax.jit(seqjax.value_and_grad(step, DNI(rate=0.5), batched=False))
    W = np.concatenate([s.synthetic_0, np.zeros((OUTPUTS, s.synthetic_0.shape[1]))])  # the state is (h, y)
    state, total, wanted = (jnp.asarray(s.h_0), jnp.asarray(s.y[0])), 0.0, sums("vanilla_rtrl", "dni")
    for t in range(STEPS):
        x = (jnp.asarray(s.x[t])[None], jnp.asarray(s.y[t])[None], jnp.full(1, float(t > 0)))

        def call(W, state=state, x=x):
            memory = Memory(shared=Synthetic(jnp.asarray(W), jnp.zeros(()), jnp.zeros(())))
            return gradient(params, state, x, memory=memory, weights=jnp.ones(1))

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
