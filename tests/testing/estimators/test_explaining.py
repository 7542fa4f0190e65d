"""Wrong estimators, written by hand in NumPy and JAX: what is said of each, and that no wrong cause is stated."""

import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import loops

from seqjax import Error, WeightedEdges
from seqjax.data import Spec, Values
from seqjax.gradients import RFLO, EProp, Truncated
from seqjax.models import RNN
from seqjax.testing import check_estimator
from seqjax.testing.estimators.strategies import explain_strategy

RNN_SCAN, ROWS_SCAN, GRU_SCAN = loops.rnn_scan(resets=(3,)), loops.rnn_scan(rows=3, padded=1), loops.gru_scan()
PROBLEM = RNN(hidden=3).problem(Spec(Values(2), Values(1)))


def autodiff(detached=lambda t: False, scale=lambda n: 1.0):
    """Reverse mode of a Python loop over the steps, which detaches the state before some of them."""

    def estimator(step, params, state, xs, key):
        num_steps = len(jax.tree.leaves(xs)[0])

        def loss(params):
            s, total = state, 0.0
            for t in range(num_steps):
                s = jax.lax.stop_gradient(s) if detached(t) else s
                s, value = step(params, s, jax.tree.map(lambda a, t=t: a[t], xs))
                total += value
            return total

        value, grads = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda a: scale(num_steps) * a, grads)

    return estimator


def rnn(mistake):
    return loops.rnn_rtrl(mistake), {"claim": "exact", "scan": RNN_SCAN, "arrays": "numpy"}


def rows(mistake):
    return loops.rnn_rows(mistake), {"claim": "exact", "scan": ROWS_SCAN, "arrays": "numpy", "batched": True}


def gru(mistake):
    return loops.gru_rtrl(mistake), {"claim": "exact", "scan": GRU_SCAN, "arrays": "numpy"}


def like(strategy, estimator, scan=None):
    return estimator, {"claim": "biased", "like": strategy, "scan": scan}


WRONG = {
    # The name, the estimator, the cause that is stated or None, and what else is said.
    "J transposed": (
        *rnn("J transposed"),
        "the Jacobian of the state is transposed",
        "right at lag 0, wrong from lag 1",
    ),
    "W transposed": (*rnn("W transposed"), r"\['W'\] is transposed in the Jacobian", "wrong from step 2"),
    "no derivative in J": (*rnn("no derivative in J"), "1 - tanh², is missing from the Jacobian", "wrong from lag 1"),
    "no derivative in I": (*rnn("no derivative in I"), "by the parameters", "wrong from the first step"),
    "stale": (
        *rnn("stale"),
        r"not set to zero where the state is reset \(x\['reset'\]\)",
        "wrong from step 4, at which nothing of the state before is kept, as at a reset",
    ),
    "zero after the reset": (
        *rnn("zero after the reset"),
        "after the step of a reset",
        r"only \['U'\], \['b'\] are wrong",
    ),
    "diagonal": (*rnn("diagonal"), "only the diagonal is kept", "wrong from lag 1"),
    "new state": (
        *rnn("after the step"),
        "the state after the step in place of the one before",
        r"only \['W'\] is wrong",
    ),
    "step before": (*rnn("step before"), "reads the influence before it is updated", "wrong from the first step"),
    "gradient transposed": (*rnn("gradient transposed"), r"the gradient of \['W'\] is transposed", r"only \['W'\]"),
    "sign": (*rnn("sign"), r"the gradient of \['b'\] is right but for its sign", r"only \['b'\]"),
    "no reset gate": (*gru("no reset gate"), r"the path through \['Wr'\] is missing", "wrong from lag 1"),
    "no update gate": (*gru("no update gate"), r"the path through \['Wz'\] is missing", "wrong from lag 1"),
    "no leak": (*gru("no leak"), None, "right at lag 0, wrong from lag 1"),
    "row before": (
        *rows("row before"),
        "the loss of a row meets the influence of the row after",
        "every row alone is right",
    ),
    "mean of rows": (*rows("mean"), "the mean over the rows", "every row alone is right"),
    "padded": (*rows("padded"), None, "1.5 times the right one in row 1, and this row is padded"),
    "mean of steps": (
        autodiff(scale=lambda n: 1 / n),
        {"claim": "exact"},
        "the mean over the steps",
        "right for 1 step",
    ),
    "twice": (autodiff(scale=lambda n: 2), {"claim": "exact"}, "2 times the right one", "wrong from the first step"),
    "detached": (autodiff(lambda t: True), {"claim": "exact"}, "does not go back at all", "right for 1 step"),
    "not detached": (*like(Truncated(steps=3), autodiff()), "it is the full gradient", "wrong from step 4"),
    "detached late": (
        *like(Truncated(steps=3), autodiff(lambda t: t == 4)),
        "the state is detached before step 5",
        "right at lags 0 to 2, wrong from lag 3",
    ),
    "rflo in full": (*like(RFLO(leak=0.5), autodiff(), PROBLEM), "it is the full gradient", "wrong from step 3"),
    "e-prop in full": (*like(EProp(), autodiff(), PROBLEM), "it is the full gradient", "wrong from lag 1"),
}
QUICK = {"J transposed", "stale", "no derivative in I", "step before", "row before", "padded"}
"""They share their compiled programs. The others are in the slow suite."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in WRONG]
)
def test_what_is_said_of_a_wrong_estimator(name):
    estimator, claim, cause, seen = WRONG[name]
    with pytest.raises(Error) as found:
        check_estimator(estimator, **claim)
    text = str(found.value)
    assert re.search(rf"What is wrong: .*{seen}", text)
    if cause is None:
        assert "The cause" not in text
    else:
        assert re.search(rf"\nThe cause: .*{cause}", text)


@pytest.mark.parametrize(("first", "second"), [("J transposed", "no derivative in I"), ("stale", "sign")])
def test_two_mistakes_at_once_have_no_cause(first, second):
    """No reading gives the gradient of both."""

    def both(step, params, state, xs, key):
        results = [loops.rnn_rtrl(name)(step, params, state, xs, key) for name in (first, second, "")]
        (loss, a), (_, b), (_, right) = results
        return loss, {name: a[name] + b[name] - right[name] for name in a}

    with pytest.raises(Error) as found:
        check_estimator(both, claim="exact", scan=RNN_SCAN, arrays="numpy")
    assert "What is wrong" in str(found.value)
    assert "The cause" not in str(found.value)


def test_the_smallest_case_runs_and_fails():
    """A stale influence needs the step before the reset, and the step of the reset."""
    estimator = loops.rnn_rtrl("stale")
    with pytest.raises(Error) as found:
        check_estimator(estimator, claim="exact", scan=RNN_SCAN, arrays="numpy")
    code = str(found.value).split("The smallest case that fails:\n")[1]
    scope = {"step": loops.rnn_step, "estimator": estimator}
    before = jax.config.read("jax_enable_x64")
    try:
        exec(re.sub(r"^ +", "", code, flags=re.MULTILINE), scope)
    finally:
        jax.config.update("jax_enable_x64", before)
    assert len(scope["xs"]["u"]) == 2
    _, want = loops.rnn_rtrl()(None, scope["params"], scope["state"], scope["xs"], 0)
    assert np.abs(scope["grads"]["W"] - want["W"]).max() > 1e-3
    shown = re.search(r"# grads\['b'\] is .*, and must be \[(.*)\]", code)[1]
    np.testing.assert_allclose([float(number) for number in shown.split(",")], want["b"], rtol=1e-3)


def history(mistake):
    """RTRL with a memory; or without one, or with one that is carried across a step too few."""

    def estimator(step, params, state, xs, key, memory):
        if mistake == "lost":
            memory = None
        loss, grads, memory = loops.rnn_rtrl("history")(step, params, state, xs, key, memory)
        return loss, grads, memory.T.reshape(memory.shape) if mistake == "mixed up" else memory

    return estimator


def test_what_is_said_of_the_history():
    claim = {"claim": "exact", "of": "history", "scan": loops.rnn_scan(), "arrays": "numpy"}
    assert set(check_estimator(history(""), **claim)["passed"]) == {"yes"}
    with pytest.raises(Error, match="Every window alone is right, with a new memory") as found:
        check_estimator(history("lost"), **claim)
    assert "The cause: the memory of the window before is not used" in str(found.value)
    with pytest.raises(Error, match="Every window alone is right, with a new memory") as found:
        check_estimator(history("mixed up"), **claim)
    assert "The cause" not in str(found.value)


def test_a_function_that_keeps_something_between_calls():
    total = {}

    def estimator(step, params, state, xs, key):
        loss, grads = loops.rnn_rtrl()(step, params, state, xs, key)
        for name, a in grads.items():
            total[name] = total.get(name, 0) + a
        return loss, dict(total)

    with pytest.raises(Error, match="The cause: gradients are added to those of the calls before"):
        check_estimator(estimator, claim="exact", scan=RNN_SCAN, arrays="numpy")


def test_a_function_of_one_length_is_not_explained():
    def estimator(step, params, state, xs, key):
        if len(xs["u"]) != loops.STEPS:
            raise RuntimeError("six steps, please")
        return loops.rnn_rtrl("stale")(step, params, state, xs, key)

    with pytest.raises(Error, match="was not looked for: on a part of a window it raises RuntimeError: six steps"):
        check_estimator(estimator, claim="exact", scan=RNN_SCAN, arrays="numpy")


def test_rounding_in_float32_is_named():
    def estimator(step, params, state, xs, key):
        loss, grads = loops.rnn_rtrl()(step, params, state, xs, key)
        return loss, {name: a.astype(np.float32) for name, a in grads.items()}

    with pytest.raises(Error, match="right but for rounding: the gradient is in float32"):
        check_estimator(estimator, claim="exact", scan=RNN_SCAN, arrays="numpy")


@pytest.mark.slow
def test_a_long_window_has_its_first_wrong_step():
    """A cut after 12 steps shows on no stretch of 8 steps."""
    u = np.random.default_rng(3).normal(size=(20, 2))

    def step(params, h, x):
        h = jnp.tanh(params["w"] @ h + x)
        return h, jnp.sum(h**2)

    scan = step, {"w": np.array([[0.5, 1.1], [-1.2, 0.3]])}, np.array([0.2, -0.4]), [u]
    with pytest.raises(Error, match=r"right for 12 steps, wrong from step 13\. Stretches of 8 steps are right"):
        check_estimator(autodiff(lambda t: t == 12), claim="exact", scan=scan)


def linear_step(params, h, x):
    h = params["a"] * h + params["w"] * x["u"] + params["d"]
    return h, jnp.sum((h - x["y"]) ** 2)


def linear(mistake=""):
    """A linear network of units that do not read each other: h = a h + w u + d."""

    def estimator(_, params, h, xs, key):
        M = {name: np.zeros(3) for name in params}
        loss, grads = 0.0, {name: np.zeros(3) for name in params}
        for u, y in zip(xs["u"], xs["y"], strict=True):
            now = {"a": h, "w": u, "d": np.ones(3)}
            if mistake:
                now[mistake] = np.ones(3) * (2.5 if mistake == "d" else 1)
            M = {name: params["a"] * M[name] + now[name] for name in M}
            h = params["a"] * h + params["w"] * u + params["d"]
            loss += np.sum((h - y) ** 2)
            grads = {name: grads[name] + 2 * (h - y) * M[name] for name in grads}
        return loss, grads

    rng = np.random.default_rng(4)
    params = {name: rng.uniform(0.3, 0.9, 3) for name in ("a", "w", "d")}
    windows = [{"u": rng.normal(size=(4, 3)), "y": rng.normal(size=(4, 3))} for _ in range(2)]
    return estimator, {"claim": "exact", "scan": (linear_step, params, rng.normal(size=3), windows), "arrays": "numpy"}


@pytest.mark.parametrize("mistake", ["a", "w", "d"])
def test_no_function_of_the_units_is_missing_where_there_is_none(mistake):
    """A factor that is lost, h or x, looks like the derivative of a function of the units."""
    estimator, claim = linear(mistake)
    with pytest.raises(Error, match="What is wrong: only") as found:
        check_estimator(estimator, **claim)
    assert "1 - tanh" not in str(found.value)


def test_gradients_that_are_not_finite_are_named():
    def estimator(step, params, state, xs, key):
        loss, grads = loops.rnn_rtrl()(step, params, state, xs, key)
        grads["W"][0, 0] = np.nan if len(xs["u"]) > 2 else grads["W"][0, 0]
        return loss, grads

    seen = r"not finite \(NaN or infinite\) on some parts; wrong in \['W'\] only at \[0, 0\]; .*wrong from step 3"
    with pytest.raises(Error, match=seen):
        check_estimator(estimator, claim="exact", scan=RNN_SCAN, arrays="numpy")


def test_a_small_added_term_is_not_called_rounding():
    def estimator(step, params, state, xs, key):
        loss, grads = loops.rnn_rtrl()(step, params, state, xs, key)
        return loss, grads | {"W": grads["W"] + 1e-6 * params["W"]}

    with pytest.raises(Error, match=r"right to about 6 digits\. Rounding in float32, finite differences or a small"):
        check_estimator(estimator, claim="exact", scan=RNN_SCAN, arrays="numpy")


def test_the_loss_is_a_sum():
    def estimator(step, params, state, xs, key):
        loss, grads = loops.rnn_rtrl()(step, params, state, xs, key)
        return loss / len(xs["u"]), grads

    with pytest.raises(Error, match="What is wrong: it is the mean over the 6 steps; the loss of a window is the sum"):
        check_estimator(estimator, claim="exact", scan=RNN_SCAN, arrays="numpy")


def test_a_function_may_use_its_arrays_again():
    kept = {name: np.zeros_like(a) for name, a in RNN_SCAN[1].items()}

    def estimator(step, params, state, xs, key):
        loss, grads = loops.rnn_rtrl()(step, params, state, xs, key)
        for name in kept:
            kept[name][...] = grads[name]
        return loss, kept

    check_estimator(estimator, claim="exact", scan=RNN_SCAN, arrays="numpy")


@dataclass(frozen=True)
class Doubled(WeightedEdges):
    """Twice the gradient in batches of at least so many rows."""

    rows: int = 1
    claim = "exact"

    def edge_weights(self, noise, memory, num_steps):
        return None, memory

    def estimate(self, problem, params, start, memory, batch, noise):
        found = super().estimate(problem, params, start, memory, batch, noise)
        factor = 2 if len(batch.rows) >= self.rows else 1
        return found._replace(grads=jax.tree.map(lambda a: factor * a, found.grads))


@pytest.mark.slow
def test_nothing_is_said_of_a_strategy_that_is_right_for_one_row(x64):
    assert "2 times the right one" in explain_strategy(Doubled(), ["small"])
    assert explain_strategy(Doubled(rows=2), ["small"]) == ""
