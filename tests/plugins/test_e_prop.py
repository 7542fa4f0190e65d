"""e-prop, and RFLO with random feedback, from their equations in a loop over steps and rows."""

import functools

import jax
import numpy as np
import pytest
from support.cells import AdaptiveSpiking
from support.influence import B, H, Rtrl, T, V, by_hand, of_model, run, states_of, with_a_reset
from support.parts import derivatives, ravel

import seqjax as sj
from seqjax.gradients import RFLO, EProp, init_memory, ravel_float
from seqjax.models import GRU, LSTM, RNN
from seqjax.testing.compare import Failed, assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

TOKENS, VALUES = sj.Spec(sj.Tokens(V)), sj.Spec(sj.Values(2))
MODELS = {
    "spiking": (AdaptiveSpiking(hidden=H), TOKENS),
    "lstm": (LSTM(hidden=H), VALUES),
    "gru": (GRU(hidden=H), VALUES),
    "rnn": (RNN(hidden=H), TOKENS),
}


def feedback_of(strategy, W_hq):
    """B, like the weights of the read-out."""
    if strategy.feedback == "random":
        return np.asarray(jax.random.normal(jax.random.key(strategy.seed), W_hq.shape)) / np.sqrt(H)
    return np.asarray(W_hq) * (strategy.feedback == "true")


def signals(c, B_hq, h_after, targets):
    """L_t for the state after a step of one row, [S], from the error of the read-out."""
    o = h_after @ np.asarray(c.params["W_hq"]) + np.asarray(c.params["b_q"])
    if c.problem.spec == TOKENS:
        error = np.exp(o - o.max()) / np.exp(o - o.max()).sum() - np.eye(V)[targets]
    else:
        error = 2 * (o - targets) / len(o)
    fields = c.problem.model.State._fields
    return np.concatenate([error @ B_hq.T if name == "h" else np.zeros(H) for name in fields]), error


@functools.cache
def parts(name):
    """What the equations read of a case: it, the derivatives, the states that enter the steps, and the D_t of e-prop.

    D_t is the derivative of the cell by the state, while h W_hh is a constant, [T, B, S, S].
    """
    c, steps = of_model(*MODELS[name])
    layer, model, states = c.params["layer_0"], c.problem.model, states_of(c)

    @quick_jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def fixed_input(layer, state, x):
        u = (layer["W_xh"][x] if c.problem.spec == TOKENS else x @ layer["W_xh"]) + layer["b_h"]
        v = state.h @ layer["W_hh"] + layer["b_hh"]
        s, others, join = ravel_float(state)
        return jax.jacfwd(lambda s: ravel_float(model.cell(u, v, join(s, others)))[0])(s)

    D = [fixed_input(layer, each.layers[0], batch.xs[0]) for each, batch in zip(states, c.windows, strict=True)]
    return c, steps, states, [np.asarray(each) for each in D]


def by_equations(name, strategy, planted=""):
    """The gradients of three windows, with e_t = D_t e_{t-1} + I_t, ē_t = κ ē_{t-1} + e_t and L_t ē_t."""
    (c, steps, states, D), found, carried = parts(name), [], {}
    is_rflo, kappa = isinstance(strategy, RFLO), getattr(strategy, "kappa", 0.0)
    names = [name for name, a in sj.gradients.leaf_names(c.params, "params") for _ in range(a.size)]
    recurrent, B_hq = np.array([name.startswith("layer_0") for name in names]), feedback_of(strategy, c.params["W_hq"])
    for d, batch, entering, D_TB in zip(steps, c.windows, states, D, strict=True):
        total, weights = 0.0, np.asarray(batch.weights)
        h_TB = np.concatenate([entering.layers[0].h[1:], d.state.layers[0].h[None]])
        for b in range(B):
            e, bar = carried.get(b, (0, 0)) if not batch.reset[b] else (0, 0)
            for t in range(T):
                D_t = (1 - strategy.leak) * np.eye(len(d.I[b, t])) if is_rflo else D_TB[t, b]
                if planted in ("the trace of W_hh", "the decay"):
                    D_t = d.J[b, t] * (planted == "the trace of W_hh")
                e = D_t @ (e + np.zeros_like(d.I[b, t])) + d.I[b, t]
                bar = kappa * bar + e
                L, error = signals(c, B_hq, h_TB[t, b], np.asarray(batch.xs[1])[t, b])
                if planted == "the last signal" and t == T - 1:
                    L = np.zeros_like(L)
                direct = jax.tree.map(np.zeros_like, c.params) | {"W_hq": np.outer(h_TB[t, b], error), "b_q": error}
                total = total + weights[t, b] * np.where(recurrent, L @ bar, ravel(direct))
            carried[b] = e, bar
        found.append(total)
    return found


def gradients(strategy, c):
    return [grads for _, grads, _ in run(strategy, c)]


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("lstm", EProp(kappa=0.6)),
        ("rnn", EProp(feedback="none")),
        ("rnn", RFLO(leak=0.3, feedback="random", seed=1)),
        pytest.param("lstm", RFLO(leak=0.3, feedback="random", seed=1), marks=pytest.mark.slow),
        *(
            pytest.param(name, EProp(feedback=feedback, kappa=kappa), marks=pytest.mark.slow)
            for name in MODELS
            for feedback in ("true", "random")
            for kappa in (0.0, 0.5)
        ),
    ],
    ids=repr,
)
def test_it_is_that_of_the_equations(name, strategy):
    assert_close(gradients(strategy, parts(name)[0]), by_equations(name, strategy), name)


@pytest.mark.slow
def test_without_recurrent_weights_e_prop_is_exact():
    """A unit then acts on itself through its own state alone, which the trace follows."""
    c, _ = of_model(*MODELS["spiking"])
    layer = c.params["layer_0"] | {"W_hh": np.zeros_like(c.params["layer_0"]["W_hh"])}
    silent = c._replace(params=c.params | {"layer_0": layer})
    assert_close(run(EProp(), silent), by_hand(silent, derivatives(silent), Rtrl), "spiking")


@pytest.mark.parametrize(
    "strategy", [EProp(kappa=0.6), pytest.param(RFLO(leak=0.3, feedback="random"), marks=pytest.mark.slow)], ids=repr
)
def test_unscored_losses_may_be_nan(strategy):
    """A loss of weight 0 has no learning signal, whatever it is."""
    c, _ = of_model(*MODELS["lstm"])
    unscored, found = (np.arange(T) == 1)[:, None], []
    for bad in (0.0, np.nan):
        windows = [
            batch._replace(
                xs=(batch.xs[0], np.where(unscored[:, :, None], bad, batch.xs[1])),
                weights=np.where(unscored, 0, batch.weights),
            )
            for batch in c.windows
        ]
        found.append(run(strategy, c._replace(windows=windows)))
    assert_close(found[1], found[0], repr(strategy))


@pytest.mark.parametrize(
    ("name", "strategy", "at"),
    [
        ("rnn", RFLO(leak=0.3, feedback="random", seed=1), 2),
        pytest.param("rnn", EProp(feedback="none"), 0, marks=pytest.mark.slow),
        *(
            pytest.param(name, strategy, at, marks=pytest.mark.slow)
            for name in ("lstm", "spiking")
            for strategy in (EProp(kappa=0.5), RFLO(leak=0.3, feedback="random"))
            for at in (0, 2)
        ),
    ],
    ids=repr,
)
def test_a_reset_inside_of_a_window_begins_anew(name, strategy, at):
    assert_close(*with_a_reset(strategy, of_model(*MODELS[name])[0], at), name)


def test_random_feedback_reaches_the_parameters_alone():
    c, _ = of_model(*MODELS["rnn"])
    assert RFLO().argnums == (0, 1)
    with pytest.raises(sj.Error, match=r"RFLO cannot differentiate state, argnums=1; take a strategy that can"):
        sj.estimate(c.problem, RFLO(feedback="random"), argnums=(0, 1), batched=True)


@pytest.mark.parametrize("fields", [{"layers": 2}, {"embedding": 2}, {"dropout": 0.5}], ids=repr)
def test_other_networks_are_refused(fields):
    problem = sj.Problem.of(RNN(hidden=H, **fields), TOKENS)
    for strategy in (EProp(), RFLO(feedback="random")):

        def memory(key, strategy=strategy):
            params = problem.init(key)
            return init_memory(strategy, problem, params, problem.init_rows(params, B), B)

        with pytest.raises(sj.Error, match=r"takes a `Cell` of one layer.*use rtrl or snap, which take any step"):
            jax.eval_shape(memory, jax.random.key(0))


@pytest.mark.parametrize("planted", ["the last signal", "the trace of W_hh", "the decay", "the filter"])
def test_other_equations_are_told_apart(planted):
    found = gradients(EProp(kappa=0.6), parts("lstm")[0])
    want = by_equations("lstm", EProp(kappa=0.5 if planted == "the filter" else 0.6), planted)
    with pytest.raises(Failed):
        assert_close(found, want, planted, 1e-6)
