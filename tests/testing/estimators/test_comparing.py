"""`compare_estimator` against gradients of a known lag, and the adapter of objects."""

import jax
import numpy as np
import pytest
from support import loops

from seqjax import Error
from seqjax.testing import by_step, check_estimator, compare_estimator

SCAN = loops.rnn_scan()


def parts_by_lag(params, state, xs):
    """The gradients [T, P] by lag, where each step has parameters of its own: one program of JAX."""
    num_steps = len(xs["u"])

    def losses(params_T):
        return jax.lax.scan(lambda s, inputs: loops.rnn_step(inputs[0], s, inputs[1]), state, (params_T, xs))[1]

    repeated = jax.tree.map(lambda a: np.stack([a] * num_steps), params)
    by_step = jax.tree.leaves(jax.device_get(jax.jit(jax.jacrev(losses))(repeated)))  # [T losses, T steps, ...]
    flat = np.concatenate([a.reshape(num_steps, num_steps, -1) for a in by_step], -1)
    return np.stack([sum(flat[t, t - lag] for t in range(lag, num_steps)) for lag in range(num_steps)])


def test_the_lags_are_those_of_the_chain_rule():
    """The shares of the exact gradient, and the cosine of a rule that keeps the diagonal of the Jacobian."""
    one = (*SCAN[:3], SCAN[3][:1])
    table = compare_estimator(loops.rnn_rtrl("diagonal"), scan=one, arrays="numpy", max_lag=2)
    with jax.enable_x64(True):
        parts = parts_by_lag(*SCAN[1:3], SCAN[3][0])
    norms = [np.linalg.norm(part) for part in (*parts[:3], sum(parts[3:]), sum(parts))]
    np.testing.assert_allclose(table["share"], np.array(norms) / norms[-1], rtol=1e-9)
    assert table["lag"] == ["0", "1", "2", "others", "all"]
    _, got = loops.rnn_rtrl("diagonal")(None, *SCAN[1:3], SCAN[3][0], 0)
    got, whole = np.concatenate([np.ravel(got[name]) for name in sorted(got)]), sum(parts)
    assert table["cosine"][-1] == pytest.approx(got @ whole / np.linalg.norm(got) / norms[-1], rel=1e-9)
    assert table["relative error"][0] < 1e-12 < 0.1 < table["relative error"][1]


def test_the_history_crosses_windows():
    """With a memory all lags are right, and so is the whole sequence; without it the whole is not."""

    def lost(step, params, state, xs, key, memory):
        return loops.rnn_rtrl("history")(step, params, state, xs, key, None)

    for estimator, right in ((loops.rnn_rtrl("history"), True), (lost, False)):
        table = compare_estimator(estimator, of="history", scan=SCAN, arrays="numpy")
        assert max(table["relative error"][:5]) < 1e-12
        assert (table["relative error"][-1] < 1e-12) == right


class Online:
    """RTRL of the RNN that is updated step by step, and returns the gradients of one layer only."""

    def __init__(self, params, state):
        self.params, self.state, self.memory = params, state, None

    def update(self, x):
        xs = jax.tree.map(lambda a: np.asarray(a)[None], x)
        result = loops.rnn_rtrl("history")(None, self.params, self.state, xs, 0, self.memory)
        loss, grads, self.memory = result
        p = self.params
        self.state = np.tanh(p["W"] @ self.state + p["U"] @ x["u"] + p["b"])
        return loss, {name: grads[name] for name in ("W", "V")}


@pytest.mark.parametrize("of", ["window", "history"])
def test_an_object_with_an_update_and_the_gradients_of_a_part(of):
    table = check_estimator(by_step(Online), claim="exact", of=of, scan=SCAN, arrays="numpy")
    assert table["on"][-1] == "scan, without ['U'], ['b']"


def test_an_unknown_entry_is_refused():
    def estimator(step, params, state, xs, key):
        loss, grads = loops.rnn_rtrl()(step, params, state, xs, key)
        return loss, {"w": grads.pop("W"), **grads}

    with pytest.raises(Error, match=r"an entry \['w'\], which the parameters do not have; did you mean 'W'"):
        check_estimator(estimator, claim="exact", scan=SCAN, arrays="numpy")
