"""e-prop, and RFLO with random feedback, from their equations in a loop over steps and rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.cells import AdaptiveSpiking
from support.influence import B, H, Rtrl, T, V, by_hand, of_model, run, states_of, with_a_reset
from support.parts import derivatives, ravel

import seqjax as sj
from seqjax.gradients import Batch, init_memory, ravel_float
from seqjax.testing.compare import Failed, assert_close
from seqjax.testing.proofs.calls import call
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import RFLO, EProp, _units
from seqjax_models import GRU, LSTM, RNN

pytestmark = pytest.mark.usefixtures("x64")

TOKENS, VALUES = sj.Spec(sj.Tokens(V)), sj.Spec(sj.Values(2))
MODELS = {
    "spiking": (AdaptiveSpiking(hidden=H), TOKENS),
    "lstm": (LSTM(hidden=H), TOKENS),
    "gru": (GRU(hidden=H), VALUES),
    "rnn": (RNN(hidden=H), VALUES),
}


def feedback_of(strategy, W_hq):
    """B, like the weights of the read-out."""
    if strategy.feedback == "random":
        return np.asarray(jax.random.normal(jax.random.key(strategy.seed), W_hq.shape)) / np.sqrt(H)
    return np.asarray(W_hq) * (strategy.feedback == "true")


def signals(c, strategy, h_after, targets):
    """L_t for the state after a step of one row, [S], from the error of the read-out."""
    o = h_after @ np.asarray(c.params["W_hq"]) + np.asarray(c.params["b_q"])
    if c.problem.spec == TOKENS:
        error = np.exp(o - o.max()) / np.exp(o - o.max()).sum() - np.eye(V)[targets]
    else:
        error = 2 * (o - targets) / len(o)
    fields = c.problem.model.State._fields
    of_h = error @ feedback_of(strategy, c.params["W_hq"]).T
    return np.concatenate([of_h if name == "h" else np.zeros(H) for name in fields]), error


def by_equations(c, derivatives, strategy, jacobians_of, kappa=0.0):
    """The gradients of three windows, with e_t = D_t e_{t-1} + I_t, ē_t = κ ē_{t-1} + e_t and L_t ē_t."""
    found, carried = [], {}
    names = [name for name, a in sj.gradients.leaf_names(c.params, "params") for _ in range(a.size)]
    recurrent = np.array([name.startswith("layer_0") for name in names])
    for d, batch, entering in zip(derivatives, c.windows, states_of(c), strict=True):
        total, weights = 0.0, np.asarray(batch.weights)
        after = jax.tree.map(lambda a, end: np.concatenate([a[1:], end[None]]), entering, d.state)
        D = jacobians_of(c, entering.layers[0], batch.xs[0])
        for b in range(B):
            e, bar = carried.get(b, (0, 0)) if not batch.reset[b] else (0, 0)
            for t in range(T):
                h = after.layers[0].h[t, b]
                e = D[t, b] @ (e + np.zeros_like(d.I[b, t])) + d.I[b, t]
                bar = kappa * bar + e
                L, error = signals(c, strategy, h, np.asarray(batch.xs[1])[t, b])
                direct = jax.tree.map(np.zeros_like, c.params) | {"W_hq": np.outer(h, error), "b_q": error}
                total = total + weights[t, b] * np.where(recurrent, L @ bar, ravel(direct))
            carried[b] = e, bar
        found.append(total)
    return found


def for_fixed_input(c, states, xs):
    """D_t, the derivative of the cell by the state, while h W_hh is a constant, [T, B, S, S]."""
    layer, model = c.params["layer_0"], c.problem.model

    def one(state, x):
        u = (layer["W_xh"][x] if c.problem.spec == TOKENS else x @ layer["W_xh"]) + layer["b_h"]
        v = state.h @ layer["W_hh"] + layer["b_hh"]
        s, others, join = ravel_float(state)
        return jax.jacfwd(lambda s: ravel_float(model.cell(u, v, join(s, others)))[0])(s)

    return np.asarray(quick_jit(jax.vmap(jax.vmap(one)))(states, xs))


def gradients(strategy, c):
    return [grads for _, grads, _ in run(strategy, c)]


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("spiking", EProp()),
        ("lstm", EProp(feedback="random", kappa=0.6, seed=3)),
        ("gru", EProp(feedback="none")),
        *(
            pytest.param(name, EProp(feedback=feedback, kappa=kappa), marks=pytest.mark.slow)
            for name in MODELS
            for feedback in ("true", "random")
            for kappa in (0.0, 0.5)
        ),
    ],
    ids=repr,
)
def test_e_prop_is_that_of_the_equations(name, strategy):
    c, steps = of_model(*MODELS[name])
    want = by_equations(c, steps, strategy, for_fixed_input, strategy.kappa)
    assert_close(gradients(strategy, c), want, name, 1e-12)


@pytest.mark.parametrize("name", ["rnn", pytest.param("lstm", marks=pytest.mark.slow)])
def test_rflo_with_random_feedback_is_that_of_the_paper(name):
    c, steps = of_model(*MODELS[name])
    strategy = RFLO(leak=0.3, feedback="random", seed=1)
    leak = lambda c, states, xs: np.broadcast_to(
        0.7 * np.eye(H * len(states)), (T, B, H * len(states), H * len(states))
    )
    assert_close(gradients(strategy, c), by_equations(c, steps, strategy, leak), name, 1e-12)


def test_without_recurrent_weights_e_prop_is_exact():
    """A unit then acts on itself through its own state alone, which the trace follows."""
    c, _ = of_model(*MODELS["spiking"])
    params = jax.tree.map(jnp.asarray, c.params)
    params["layer_0"]["W_hh"] = jnp.zeros_like(params["layer_0"]["W_hh"])
    silent = c._replace(params=params)
    assert_close(run(EProp(), silent), by_hand(silent, derivatives(silent), Rtrl), "spiking", 1e-12)


def test_random_weights_depend_on_the_seed_alone():
    c, _ = of_model(*MODELS["rnn"])
    one, same, other = (gradients(EProp(feedback="random", seed=seed), c)[0] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_unscored_losses_may_be_nan():
    """A loss of weight 0 has no learning signal, whatever it is."""
    c, _ = of_model(*MODELS["rnn"])
    batch = c.windows[0]
    weights = batch.weights.at[1].set(0)
    for strategy in (EProp(kappa=0.5), RFLO(feedback="random")):
        memory = init_memory(strategy, c.problem, c.params, c.state, B)
        found = []
        for bad in (0.0, jnp.nan):
            xs = batch.xs[0], batch.xs[1].at[1].set(bad)
            changed = Batch(xs, weights, *batch[2:])
            found.append(call(strategy, c.problem, c.params, c.state, memory, changed, None).grads)
        assert_close(found[1], found[0], repr(strategy))


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("lstm", EProp(kappa=0.5)),
        ("rnn", RFLO(leak=0.3, feedback="random")),
        pytest.param("spiking", EProp(), marks=pytest.mark.slow),
        pytest.param("lstm", RFLO(leak=0.3, feedback="random"), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_a_reset_inside_of_a_window_begins_anew(name, strategy, at):
    c, _ = of_model(*MODELS[name])
    found, want = with_a_reset(strategy, c, at)
    assert_close(found, want, name)


def test_random_feedback_reaches_the_parameters_alone():
    c, _ = of_model(*MODELS["rnn"])
    assert RFLO().argnums == (0, 1)
    with pytest.raises(sj.Error, match=r"RFLO cannot differentiate state, argnums=1; these strategies can: .*rflo"):
        sj.value_and_grad(c.problem, RFLO(feedback="random"), argnums=(0, 1))


@pytest.mark.parametrize("fields", [{"layers": 2}, {"embedding": 2}, {"dropout": 0.5}], ids=repr)
def test_other_networks_are_refused(fields):
    problem = sj.Problem.of(RNN(hidden=H, **fields), TOKENS)
    params = problem.init(jax.random.key(0))
    for strategy in (EProp(), RFLO(feedback="random")):
        with pytest.raises(sj.Error, match=r"takes a `Cell` of one layer.*use rtrl or snap, which take any step"):
            init_memory(strategy, problem, params, problem.init_rows(params, B), B)


@pytest.mark.parametrize("planted", ["the last signal", "the trace of W_hh", "the decay", "the filter"])
def test_planted_faults_are_found(planted, monkeypatch):
    c, steps = of_model(*MODELS["gru"])
    strategy = EProp(kappa=0.5)
    through, jacobians = _units.through, _units.local_jacobians
    if planted == "the last signal":
        monkeypatch.setattr(_units, "through", lambda M, J, q, window, last=None: through(M, J, q, window))
    elif planted == "the trace of W_hh":
        monkeypatch.setattr(_units, "local_jacobians", lambda window, through_W_hh: jacobians(window))
    elif planted == "the decay":
        monkeypatch.setattr(_units, "local_jacobians", lambda window, through_W_hh: 0 * jacobians(window))
    else:
        strategy = EProp(kappa=0.4)
    jax.clear_caches()
    want = by_equations(c, steps, EProp(kappa=0.5), for_fixed_input, 0.5)
    with pytest.raises(Failed):
        assert_close(gradients(strategy, c), want, planted, 1e-6)
    jax.clear_caches()
