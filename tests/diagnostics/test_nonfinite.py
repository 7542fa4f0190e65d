"""`first_nonfinite` finds what was planted, and has the norms of a Python loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.testing.compare import assert_close

LONG = 10_000


def planted(at, leaf, in_value):
    """Three coupled variables, with a number that is not finite in one of them at one step.

    In the value 0 is multiplied by an infinite 1 / (t - at). In the gradient 0 is multiplied by the infinite
    derivative of the square root at 0, whose value is finite.
    """

    def step(params, s, t):
        new = {}
        for name, other in (("a", "c"), ("b", "a"), ("c", "b")):
            new[name] = jnp.tanh(params["w"] * s[other] + params["b"])
            if name == leaf and in_value:
                new[name] += 0 * (1 / (t - at).astype(float))
            elif name == leaf:
                root = jnp.sqrt(jnp.where(t == at, 0 * s[leaf], 1.0))
                new[name] = new[name] + jnp.where(t == at, 0, 1) * 0.1 * root
        return new, s["a"] * s["b"]

    return step


PARAMS = {"w": 0.9, "b": 0.1}
STATE = {"a": jnp.asarray(0.3), "b": jnp.asarray(0.2), "c": jnp.asarray(-0.1)}


def find(step, num_steps=LONG, **more):
    return sj.first_nonfinite(step, PARAMS, STATE, jnp.arange(num_steps), batched=False, **more)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
@pytest.mark.parametrize("in_value", [True, False], ids=["value", "gradient"])
def test_a_planted_step_is_found(seed, in_value):
    rng = np.random.default_rng(seed)
    at, leaf = int(rng.integers(LONG)), "abc"[rng.integers(3)]
    found = find(planted(at, leaf, in_value))
    if in_value:
        assert found.value[:6] == (at, None, "state", leaf, (), "div")
        assert found.gradient is None  # it is that of the steps before
        assert np.isnan(found.norms[f"state {leaf}"][at])
        assert np.isfinite(found.norms[f"state {leaf}"][:at]).all()
    else:
        assert found.value is None
        assert found.gradient[:4] == (at, None, "state", leaf)
        assert np.isfinite(found.gradient_norms[f"state {leaf}"][at + 1 :]).all()


def test_norms_are_those_of_a_loop(x64):
    rows, num_steps = 2, 23
    xs = jax.random.normal(jax.random.key(0), (num_steps, rows, 2))
    params, state = {"W": jnp.array([[0.5, -0.8], [0.3, 0.9]])}, {"h": jnp.ones((rows, 2)), "n": jnp.zeros(rows, int)}
    weights = jnp.where(jax.random.uniform(jax.random.key(1), (num_steps, rows)) < 0.4, 0, 0.3)
    reset = jnp.arange(num_steps) == 9

    def step(params, s, x):
        return {"h": jnp.tanh(params["W"] @ s["h"] + x), "n": s["n"] + 1}, jnp.sum(s["h"] ** 2)

    def losses_of(tangents, params_T):
        """All losses, with a shift of the state that enters each step, and with parameters of its own at each step."""
        total, h, after = 0.0, state["h"], []
        for t in range(num_steps):
            h = (state["h"] if reset[t] else h + tangents[t]) if t != 9 else state["h"] + 0 * tangents[t]
            for row in range(rows):
                total += weights[t, row] * jnp.sum(h[row] ** 2)
            h = jnp.tanh(jnp.einsum("ij,bj->bi", params_T[t], h) + xs[t])
            after.append(h)
        return total, jnp.stack(after)

    found = sj.first_nonfinite(step, params, state, xs, weights=weights, reset=reset)
    shifts = jnp.zeros((num_steps, rows, 2))
    params_T = jnp.broadcast_to(params["W"], (num_steps, 2, 2))
    (by_state, by_params), after = jax.grad(losses_of, (0, 1), has_aux=True)(shifts, params_T)
    assert (found.value, found.gradient) == (None, None)
    assert_close(found.norms["state h"], jnp.linalg.norm(after, axis=-1).max(1), "values")
    assert_close(found.gradient_norms["state h"], jnp.linalg.norm(by_state, axis=-1).max(1), "by the state")
    assert_close(found.gradient_norms["params W"], jnp.linalg.norm(by_params, axis=(1, 2)), "by the parameters")


def test_what_is_given_is_named_and_rows_are_told_apart():
    xs = jnp.ones((20, 3)).at[7, 1].set(jnp.nan)

    def step(w, s, x):
        return s * w + x["u"], s**2

    found = sj.first_nonfinite(step, 0.5, jnp.zeros(3), {"u": xs})
    assert found.value[:4] == (7, 1, "xs", "u")
    assert found.gradient is None
    found = sj.first_nonfinite(step, 0.5, jnp.zeros(3).at[2].set(jnp.inf), {"u": jnp.ones((20, 3))})
    assert found.value[:4] == (0, 2, "state", "state")
    assert "value: state not finite at step 0, row 2\n" in str(found)
    found = sj.first_nonfinite(
        lambda w, s, x: (s, jax.lax.cond(x < 0, jnp.log, jnp.exp, s * w + x)),
        1.0,
        jnp.zeros(3),
        jnp.ones((5, 3)).at[4].set(-1),
    )
    assert found.value[:6] == (4, 0, "loss", "loss", (), "log")


def test_a_gradient_by_a_parameter_alone():
    found = sj.first_nonfinite(lambda w, s, x: (s, x * jnp.sqrt(w["r"])), {"r": 0.0}, jnp.zeros(2), jnp.ones((6, 2)))
    assert found.value is None
    assert found.gradient[:4] == (5, 0, "params", "r")
    assert (
        "gradient: by params r not finite at step 5, row 0, made by div in the derivative at test_nonfinite.py:"
        in str(found)
    )


def test_a_loss_that_does_not_count_may_be_infinite():
    def step(w, s, x):
        return jnp.tanh(w * s + x), s * jnp.sqrt(x)

    xs = jnp.array([1.0, -1.0, 1.0, 1.0])
    weights = jnp.array([1.0, 0.0, 1.0, 1.0])
    found = sj.first_nonfinite(step, 0.5, jnp.asarray(0.5), xs, weights=weights, batched=False)
    assert (found.value, found.gradient) == (None, None)


def test_an_operation_with_infinite_inputs_that_come_to_nothing_is_not_named():
    """A mask of -inf in a softmax is finite in the end; the division is not."""

    def step(w, s, x):
        masked = jnp.where(jnp.arange(3) > 0, s, -jnp.inf)
        return jax.nn.softmax(w * masked) / x, s[0]

    found = sj.first_nonfinite(step, 1.0, jnp.ones(3), jnp.array([1.0, 1.0, 0.0, 1.0]), batched=False)
    assert found.value[:6] == (2, None, "state", "state", (0,), "div")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing", (9, "state", "v", (), "div")),
        ("bound", (6, "loss", "loss", (), "log")),
        ("constant", (4, "loss", "loss", (), "a constant of the step")),
        ("bias", (0, "params", "low", (1,), "")),
        ("complex", (3, "xs", "z", (1,), "")),
        ("last", (0, "state", "v", (), "")),
    ],
)
def test_what_comes_to_nothing_is_not_named_and_what_is_given_is(name, expected):
    """NaN for a missing input, an infinite bound and a closed-over NaN, of which some reach a result."""
    params = {"w": jnp.asarray(0.5), "low": jnp.asarray([-jnp.inf, 0.0])}
    xs = {"u": jnp.ones(12).at[jnp.array([3, 9])].set(jnp.nan), "d": jnp.ones(12), "z": jnp.ones((12, 2), complex)}
    state = {"h": jnp.asarray(0.1), "v": jnp.asarray(1.0)}
    if name == "missing":
        xs["d"] = xs["d"].at[9].set(0)
    if name == "bias":
        params["low"] = params["low"].at[1].set(jnp.nan)
    if name == "complex":
        xs["z"] = xs["z"].at[3, 1].set(complex(0, jnp.nan))
    if name == "last":
        state["v"] = jnp.asarray(jnp.nan)
    table = jnp.ones(12).at[4].set(jnp.nan)

    def step(p, s, x):
        t, x = x
        h = jnp.tanh(p["w"] * s["h"] + jnp.where(jnp.isnan(x["u"]), 0, x["u"]) + p["low"][1])
        bounded = jnp.maximum(jnp.where((name == "bound") & (t == 6), 0, 1.0), p["low"][0])
        loss = jnp.log(bounded) + jnp.where(name == "constant", table[t], 0) + jnp.sum(jnp.abs(x["z"]))
        return {"h": h, "v": s["v"] / x["d"]}, loss + h

    found = sj.first_nonfinite(step, params, state, (jnp.arange(12), xs), batched=False)
    place = found.value
    if place.of == "xs":
        assert place.name == "1.z"
        place = place._replace(name="z")
    assert (place.step, place.of, place.name, place.entry, place.operation) == expected


def test_a_gradient_by_parameters_names_its_row_and_the_others():
    def step(p, s, x):
        return jnp.tanh(p["W"] @ s), jnp.sqrt(jnp.sum((p["W"] @ s * x) ** 2))  # the derivative of sqrt is infinite at 0

    xs = jnp.ones((6, 3)).at[4, 2].set(0)
    found = sj.first_nonfinite(step, {"W": jnp.eye(2)}, jnp.ones((3, 2)), xs)
    assert found.value is None
    assert found.gradient[:3] == (4, 2, "state")
    assert found.gradient.others == ("params W",)
    assert "at test_nonfinite.py:" in str(found)
    found = sj.first_nonfinite(step, {"W": jnp.eye(2)}, jnp.ones((3, 2)), xs.at[5].set(0), weights="last")
    assert found.gradient[:2] == (5, 0)
    only = sj.first_nonfinite(lambda w, s, x: (s, jnp.sqrt(w * x)), 1.0, jnp.zeros(3), xs)
    assert only.gradient[:5] == (4, 2, "params", "params", ())


def test_text_table_and_figure():
    found = find(planted(3, "b", in_value=True), num_steps=9)
    lines = str(found).splitlines()
    assert lines[0].startswith("value: state b not finite at step 3, made by div at test_nonfinite.py:")
    assert lines[1] == "gradient: finite up to step 2"
    assert found.table["variable"] == ["state a", "state b", "state c", "loss", "params b", "params w"]
    for of in ("value", "gradient"):
        lines = found.plot(of).axes[0].lines
        assert len(lines) == {"value": 5, "gradient": 5}[of]  # and the step that is not finite
    assert "<table" in found._repr_html_()
    with pytest.raises(sj.Error, match='must be "value" or "gradient"'):
        found.plot("both")
    assert str(find(lambda p, s, t: (s, p["w"] * s["a"]), num_steps=4)).startswith(
        "the values and the gradients of each of 4 steps are finite"
    )
