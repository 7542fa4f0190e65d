"""`first_nonfinite` finds what was planted, and has the norms of a Python loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

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


PARAMS = {"w": np.float32(0.9), "b": np.float32(0.1)}
STATE = {"a": np.float32(0.3), "b": np.float32(0.2), "c": np.float32(-0.1)}


def found_by(step, *args, batched=True, **more):
    """`first_nonfinite` of numpy arrays, which are put on the device, so that none is converted there."""
    return sj.first_nonfinite(step, *jax.device_put(args), batched=batched, **more)


def find(step, num_steps=LONG, **more):
    return found_by(step, PARAMS, STATE, np.arange(num_steps), batched=False, **more)


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
    rows, num_steps, rng = 2, 23, np.random.default_rng(0)
    xs, weights = rng.normal(size=(num_steps, rows, 2)), np.where(rng.random((num_steps, rows)) < 0.4, 0, 0.3)
    W, h0, reset = np.array([[0.5, -0.8], [0.3, 0.9]]), np.ones((rows, 2)), np.arange(num_steps) == 9

    def step(params, s, x):
        return {"h": jnp.tanh(params["W"] @ s["h"] + x), "n": s["n"] + 1}, jnp.sum(s["h"] ** 2)

    @quick_jit
    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def loop(shifts, W_T):
        """All losses, with a shift of the state that enters each step, and with parameters of its own at each step."""

        def body(h, inputs):
            shift, W, x, weights_B, is_reset = inputs
            h = jnp.where(is_reset, h0, h + shift)
            after = jnp.tanh(jnp.einsum("ij,bj->bi", W, h) + x)
            return after, (weights_B @ jnp.sum(h**2, 1), after)

        _, (losses, after) = jax.lax.scan(body, h0, (shifts, W_T, xs, weights, reset))
        return losses.sum(), after

    found = found_by(step, {"W": W}, {"h": h0, "n": np.zeros(rows, int)}, xs, weights=weights, reset=reset)
    (by_state, by_params), after = loop(np.zeros_like(xs), np.tile(W, (num_steps, 1, 1)))
    assert (found.value, found.gradient) == (None, None)
    assert_close(found.norms["state h"], np.linalg.norm(after, axis=-1).max(1), "values")
    assert_close(found.gradient_norms["state h"], np.linalg.norm(by_state, axis=-1).max(1), "by the state")
    assert_close(found.gradient_norms["params W"], np.linalg.norm(by_params, axis=(1, 2)), "by the parameters")


def replaced(shape, at, value, fill=1.0):
    """An array of a number, with another value at one place."""
    array = np.full(shape, fill, np.float32)
    array[at] = value
    return array


def test_what_is_given_is_named_and_rows_are_told_apart():
    def step(w, s, x):
        return s * w + x["u"], s**2

    zero = np.zeros(3, np.float32)
    found = found_by(step, np.float32(0.5), zero, {"u": replaced((20, 3), (7, 1), np.nan)})
    assert found.value[:4] == (7, 1, "xs", "u")
    assert found.gradient is None
    found = found_by(step, np.float32(0.5), replaced(3, 2, np.inf, 0), {"u": replaced((20, 3), (), 1)})
    assert found.value[:4] == (0, 2, "state", "state")
    assert "value: state not finite at step 0, row 2\n" in str(found)
    found = found_by(
        lambda w, s, x: (s, jax.lax.cond(x < 0, jnp.log, jnp.exp, s * w + x)),
        np.float32(1),
        zero,
        replaced((5, 3), 4, -1),
    )
    assert found.value[:6] == (4, 0, "loss", "loss", (), "log")


def test_a_gradient_by_a_parameter_alone():
    step, xs = lambda w, s, x: (s, jnp.sqrt(w * x)), replaced((6, 3), (4, 2), 0)
    found = found_by(step, np.float32(1), np.zeros(3, np.float32), xs)
    assert found.value is None
    assert found.gradient[:5] == (4, 2, "params", "params", ())
    assert (
        "gradient: by params not finite at step 4, row 2, made by div in the derivative at test_nonfinite.py:"
        in str(found)
    )


def test_a_loss_that_does_not_count_may_be_infinite():
    def step(w, s, x):
        return jnp.tanh(w * s + x), s * jnp.sqrt(x)

    xs, weights = replaced(4, 1, -1), replaced(4, 1, 0)
    found = found_by(step, np.float32(0.5), np.float32(0.5), xs, weights=weights, batched=False)
    assert (found.value, found.gradient) == (None, None)


def test_an_operation_with_infinite_inputs_that_come_to_nothing_is_not_named():
    """A mask of -inf in an exponential is finite in the end; the division is not."""

    def step(w, s, x):
        return jnp.exp(jnp.where(jnp.arange(3) > 0, w * s, -jnp.inf)) / x, s[0]

    given = np.float32(1), np.ones(3, np.float32), replaced(4, 2, 0)
    found = found_by(step, *given, batched=False)
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
    params = {"w": np.float32(0.5), "low": replaced(2, 0, -np.inf, 0)}
    xs = {"u": replaced(12, [3, 9], np.nan), "d": replaced(12, (), 1), "z": np.ones((12, 2), np.complex64)}
    state, table = {"h": np.float32(0.1), "v": np.float32(1)}, jnp.asarray(replaced(12, 4, np.nan))
    if name == "missing":
        xs["d"][9] = 0
    if name == "bias":
        params["low"][1] = np.nan
    if name == "complex":
        xs["z"][3, 1] = complex(0, np.nan)
    if name == "last":
        state["v"] = np.float32(np.nan)

    def step(p, s, x):
        t, x = x
        h = jnp.tanh(p["w"] * s["h"] + jnp.where(jnp.isnan(x["u"]), 0, x["u"]) + p["low"][1])
        bounded = jnp.maximum(jnp.where((name == "bound") & (t == 6), 0, 1.0), p["low"][0])
        loss = jnp.log(bounded) + jnp.where(name == "constant", table[t], 0) + jnp.sum(jnp.abs(x["z"]))
        return {"h": h, "v": s["v"] / x["d"]}, loss + h

    found = found_by(step, params, state, (np.arange(12), xs), batched=False)
    place = found.value
    if place.of == "xs":
        assert place.name == "1.z"
        place = place._replace(name="z")
    assert (place.step, place.of, place.name, place.entry, place.operation) == expected


def test_a_gradient_by_parameters_names_its_row_and_the_others():
    def step(p, s, x):
        return jnp.tanh(p["W"] * s), jnp.sqrt((p["W"] * s * x) ** 2)  # the derivative of sqrt is infinite at 0

    xs, given = replaced((6, 3), (4, 2), 0), ({"W": np.float32(1)}, np.ones(3, np.float32))
    found = found_by(step, *given, xs)
    assert found.value is None
    assert found.gradient[:3] == (4, 2, "state")
    assert found.gradient.others == ("params W",)
    assert "at test_nonfinite.py:" in str(found)
    xs[5] = 0
    assert found_by(step, *given, xs, weights="last").gradient[:2] == (5, 0)


def test_text_table_and_figure():
    found = find(planted(3, "b", in_value=True), num_steps=9)
    lines = str(found).splitlines()
    assert lines[0].startswith("value: state b not finite at step 3, made by div at test_nonfinite.py:")
    assert lines[1] == "gradient: finite up to step 2"
    assert found.table["variable"] == ["state a", "state b", "state c", "loss", "params b", "params w"]
    for of in ("value", "gradient"):
        lines = found.plot(of).axes[0].lines
        assert len(lines) == {"value": 5, "gradient": 5}[of]  # and the step that is not finite
    assert found._repr_markdown_().endswith(found.table.to_markdown())
    with pytest.raises(sj.Error, match='must be "value" or "gradient"'):
        found.plot("both")
    assert str(find(lambda p, s, t: (s, p["w"] * s["a"]), num_steps=4)).startswith(
        "the values and the gradients of each of 4 steps are finite"
    )


def test_the_iterations_of_a_loop_are_followed_as_those_of_a_step_that_ignores_its_input():
    """u falls by w in a step, and row 1 begins lower, so that its root is the first one of a negative number."""

    def iteration(w, s, x):
        assert x is None
        v = jnp.sqrt(s["u"])
        return {"u": s["u"] - w, "v": v}, v

    w, state = np.float32(0.25), {"u": np.array([1.5, 0.875], np.float32), "v": np.zeros(2, np.float32)}
    reset = np.arange(9) == 2
    found = found_by(iteration, w, state, length=9, reset=reset)
    # Row 1 starts again at step 2, and .875 - 4/4 is negative four steps later.
    assert found.value[:6] == (6, 1, "state", "v", (), "sqrt")
    assert found.value.line.startswith("test_nonfinite.py:")
    u = np.array([1.5, 1.25, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_array_equal(found.norms["state u"], np.maximum(u - 0.25, np.abs(u - 0.625 - 0.25)))
    want = found_by(lambda w, s, x: iteration(w, s, None), w, state, np.zeros((9, 2)), reset=reset)
    assert (found.value, found.gradient) == (want.value, want.gradient)
    for norms, others in ((found.norms, want.norms), (found.gradient_norms, want.gradient_norms)):
        jax.tree.map(np.testing.assert_array_equal, norms, others)
    with pytest.raises(sj.Error, match="xs = None has no arrays, so that the number of steps is not known: pass it"):
        found_by(iteration, w, state)
