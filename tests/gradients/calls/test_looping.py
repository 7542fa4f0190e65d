"""`while_loop` against Python loops, whose edges are cut by `stop_gradient`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.slow import slow

import seqjax as sj
from seqjax.errors import Error
from seqjax.gradients import Full, Implicit, Last, Sliding, Truncated
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

MAX = 9
STOPS = (0, 1, 4, 7, MAX)


def cut_every(steps):
    return lambda t, stop: t > 0 and t % steps == 0


def cut_before_last(steps):
    return lambda t, stop: t == stop - steps and t > 0


def uncut(t, stop):
    return False


# Each strategy, and whether the edge into step t is cut in a loop that stops after `stop` steps.
STRATEGIES = {
    "full": (Full(), uncut),
    "levels=1": (Full(levels=1), uncut),
    "levels=2": (Full(levels=2), uncut),
    "budget": (Full(budget="3kB"), uncut),
    "truncated 1": (Truncated(steps=1), cut_every(1)),
    "truncated 3": (Truncated(steps=3), cut_every(3)),
    "truncated 50": (Truncated(steps=50), uncut),
    "last 1": (Last(steps=1), cut_before_last(1)),
    "last 4": (Last(steps=4), cut_before_last(4)),
    "last 50": (Last(steps=50), uncut),
}
RNG = np.random.default_rng(0)
W = 0.4 * RNG.normal(size=(3, 3))
X_B = RNG.normal(size=(len(STOPS), 3))
H_B = RNG.normal(size=(len(STOPS), 3))


def body_of(W, x, stop):
    """A step that draws, counts, and has neither a value nor a derivative after the stop."""

    def body(state):
        h, n = state["h"], state["n"]
        noise = jax.random.normal(jax.random.fold_in(state["key"], n), h.shape)
        size = jnp.sqrt(jnp.where(n < stop, 1 + h**2, 0 * h)) + jnp.where(n < stop, 0.0, jnp.nan)
        return {"h": jnp.sin(W @ h + x) / size + 0.1 * noise, "n": n + 1, "key": state["key"]}

    return body


def start(h):
    return {"h": h, "n": jnp.int32(0), "key": jax.random.key(3)}


def loss_of(state):
    return jnp.sum(jnp.cos(state["h"]) * (state["n"] + 1).astype(float))


def looped(strategy):
    """The loss of one row by `while_loop`, whose condition and body close over the stop."""

    def loss(W, x, h, stop):
        state = sj.while_loop(lambda s: s["n"] < stop, body_of(W, x, stop), start(h), MAX, strategy)
        return loss_of(state)

    return loss


def unrolled(stop):
    """The loss of one row by a Python loop; kept[t] says whether the edge into step t is kept."""

    def loss(W, x, h, kept):
        state, body = start(h), body_of(W, x, stop)
        for t in range(stop):
            state = body(state | {"h": jnp.where(kept[t], state["h"], jax.lax.stop_gradient(state["h"]))})
        return loss_of(state)

    return loss


@functools.cache
def wanted():
    """For each strategy the loss, the gradients by W, x and the initial state, and a Hessian-vector product by W."""
    cuts = [cut for _, cut in STRATEGIES.values()]

    def rows(W):
        for i, stop in enumerate(STOPS):
            kept = np.array([[not cut(t, stop) for t in range(MAX)] for cut in cuts])
            value_and_grad = jax.value_and_grad(unrolled(stop), (0, 1, 2))
            along = lambda *args, f=value_and_grad: jax.jvp(lambda W: f(W, *args), (W,), (jnp.cos(W),))
            yield jax.vmap(along, (None, None, 0))(X_B[i], H_B[i], kept)

    stacked = jax.device_get(quick_jit(lambda W: jax.tree.map(lambda *a: jnp.stack(a, 1), *rows(W)))(W))
    return {name: jax.tree.map(lambda a, i=i: a[i], stacked) for i, name in enumerate(STRATEGIES)}


def derivatives(loss):
    """The loss and its gradients, and their derivatives in a direction of W."""

    def run(W, *args):
        return jax.jvp(lambda W: jax.value_and_grad(loss, (0, 1, 2))(W, *args), (W,), (jnp.cos(W),))

    return run


SLOW = ["levels=1", "budget", "truncated 50", "last 50"]


@pytest.mark.parametrize("name", [*(name for name in STRATEGIES if name not in SLOW), *slow(*SLOW)])
def test_each_row_stops_by_itself(name):
    """All rows together: values, gradients and Hessian-vector products."""
    run = jax.vmap(derivatives(looped(STRATEGIES[name][0])), (None, 0, 0, 0))
    assert_close(quick_jit(run)(W, X_B, H_B, np.array(STOPS, np.int32)), wanted()[name], name, bound=1e-12)


@pytest.mark.parametrize("name", ["full", "truncated 3", "last 4"])
def test_one_loop_alone(name):
    run = quick_jit(derivatives(looped(STRATEGIES[name][0])))
    for i, stop in enumerate(STOPS):
        want = jax.tree.map(lambda a, i=i: a[i], wanted()[name])
        assert_close(run(W, X_B[i], H_B[i], np.int32(stop)), want, f"{name}, {stop} steps", bound=1e-12)


STOPS_BC = np.array([[0, 2], [3, 1], [0, 0]], np.int32)


@pytest.mark.parametrize("name", ["full", "levels=1", "truncated 1", "last 1"])
def test_inside_of_a_checkpointed_scan_under_two_vmaps(name):
    """Parameters and stops differ by row, and all rows of one row of rows stop at once."""
    strategy, cut = STRATEGIES[name]
    w_BC, xs_T = 0.5 + RNG.random(STOPS_BC.shape), RNG.normal(size=2)

    def step(w, x, stop, s, n):
        return jnp.sin(w * s + x) / jnp.sqrt((stop - n) * (1 + s**2))  # 0 / 0 after the stop

    def looped(w, stop):
        @jax.checkpoint
        def f(s, x):
            body = lambda c: (step(w, x, stop, *c), c[1] + 1)
            return sj.while_loop(lambda c: c[1] < stop, body, (s, 0.0), 4, strategy)[0], None

        return jax.lax.scan(f, 0.5, xs_T)[0]

    def unrolled(w, stop):
        s = jnp.asarray(0.5)
        for x in xs_T:
            for t in range(stop):
                s = step(w, x, stop, jax.lax.stop_gradient(s) if cut(t, stop) else s, t)
        return s

    def by_loops(w_BC):
        each = [jax.value_and_grad(unrolled)(w_BC[at], int(stop)) for at, stop in np.ndenumerate(STOPS_BC)]
        return jax.tree.map(lambda *a: jnp.stack(a).reshape(STOPS_BC.shape), *each)

    by_rows = jax.vmap(jax.vmap(jax.value_and_grad(looped)))
    assert_close(*quick_jit(lambda w: (by_rows(w, 1.0 * STOPS_BC), by_loops(w)))(w_BC), name, bound=1e-12)


@pytest.mark.parametrize("name", ["full", "levels=1", "last 1"])
def test_steps_after_the_last_stop_are_not_executed(name):
    """Steps are counted on the host. `last` executes its last step again."""
    counted = []

    def run(stop):
        def body(c):
            jax.debug.callback(counted.append, c[1])
            return 0.5 * c[0], c[1] + 1

        return sj.while_loop(lambda c: c[1] < stop, body, (1.0, jnp.int32(0)), 1000, STRATEGIES[name][0])[0]

    one, rows = quick_jit(run), quick_jit(jax.vmap(run))
    for stops in (4, [2, 5], [0, 0]):
        counted.clear()
        jax.block_until_ready((rows if np.ndim(stops) else one)(np.array(stops, np.int32)))
        jax.effects_barrier()
        last = np.max(stops)
        assert len(counted) == np.size(stops) * (last + (name == "last 1" and last > 0)), stops


def test_values_of_python_numbers_are_those_of_jax():
    cond, body = lambda c: c["a"] < 100, lambda c: {"a": 3 * c["a"], "b": (c["b"][0] + 1,)}
    init = {"a": 1.0, "b": (0,)}
    with_dtypes = lambda tree: jax.tree.map(lambda a: (a.dtype, a.item()), tree)
    want = with_dtypes(jax.lax.while_loop(cond, body, init))
    strategies = Full(), Truncated(steps=2), Last(steps=2), Implicit()
    run = quick_jit(lambda: [[sj.while_loop(cond, body, init, n, each) for n in (50, 2, 0)] for each in strategies])
    for ended, after_two, at_once in run():
        assert with_dtypes(ended) == want
        assert [after_two["a"].item(), at_once["a"].item()] == [9, 1]


def test_a_weak_number_beside_a_small_dtype_and_a_callback_in_the_condition():
    """A number of Python stays weak, and the condition is not differentiated."""

    def cond(s):
        return jax.pure_callback(lambda n: np.bool_(n < 3), jax.ShapeDtypeStruct((), bool), s[0])

    init = 1.0, jnp.ones(2, jnp.bfloat16)
    body = lambda s: (s[0] + 1.0, s[1] * s[0])
    for strategy in (Full(), Truncated(steps=1), Last(steps=1)):
        run = lambda b, strategy=strategy: sj.while_loop(cond, body, (init[0], b), 9, strategy)[1].sum()
        value, grad = quick_jit(jax.value_and_grad(run))(init[1])
        assert (value.dtype, float(value)) == (jnp.bfloat16, 4)
        assert grad.tolist() == ([2, 2] if strategy == Full() else [0, 0])


def test_wrong_arguments_are_refused():
    def loop(**options):
        options = {"body": lambda s: s + 1, "max_steps": 5, "gradient": Full()} | options
        return sj.while_loop(lambda s: s < 3, init=0.0, **options)

    for gradient in (Sliding(steps=3), Full, None, "full"):
        with pytest.raises(Error, match="instance of Full, Truncated, Last or Implicit"):
            loop(gradient=gradient)
    for max_steps in (-1, 2.5, 2**31):
        with pytest.raises(Error, match="max_steps"):
            loop(max_steps=max_steps)
    with pytest.raises(TypeError, match="equal types"):
        loop(body=lambda s: jnp.stack([s, s]))


@pytest.mark.parametrize("name", ["full", "levels=1", "truncated 1", "last 1"])
def test_rows_do_not_disturb_each_other(name):
    """A shared parameter is summed over rows that have stopped, after which their steps have no derivative.

    The last row has an infinite derivative at a step at which the others have stopped.
    """
    strategy = STRATEGIES[name][0]

    @jax.custom_vjp
    def half_root(a):
        return jnp.sqrt(a) / 2

    half_root.defvjp(lambda a: (half_root(a), a), lambda a, ct: (ct / (4 * jnp.sqrt(a)),))  # no forward mode

    def run(w, v, stop, singular):
        body = lambda c: (half_root(w + v * c[0] * (stop - c[1]) * (singular - c[1]) / 6), c[1] + 1)
        return sj.while_loop(lambda c: c[1] < stop, body, (1.0, 0.0), 9, strategy)[0]

    stops, singular, v = np.array([1.0, 2.0, 5.0]), np.array([7.0, 7.0, 3.0]), np.array([1.0, 1.0, 0.0])
    rows = jax.vmap(run, (None, 0, 0, 0))

    @quick_jit
    def gradients(w):
        of_shared = jax.grad(lambda w: rows(w, v[:2], stops[:2], singular[:2]).sum())(w)
        each = [jax.grad(run)(w, 1.0, *row) for row in zip(stops[:2], singular[:2], strict=True)]
        return of_shared, sum(each), jax.vmap(jax.grad(run, 1), (None, 0, 0, 0))(w, v, stops, singular)

    of_shared, of_each, of_rows = gradients(0.0)
    assert_close(of_shared, of_each, f"{name}, shared", bound=1e-12)
    assert np.isfinite(of_rows[:2]).all(), of_rows
    assert not np.isfinite(of_rows[2]), of_rows


def test_complex_states():
    """JAX 0.12 cannot choose which complex residuals are kept."""
    run = lambda w, strategy: sj.while_loop(lambda s: jnp.abs(s) < 9, lambda s: w * s * (1 + 1j), 1j, 30, strategy)
    # w^3 (1 + i)^3 i = -2 (1 + i) w^3
    grads = quick_jit(jax.jacrev(lambda w: [-run(w, each).imag / 2 for each in (Full(), Last(steps=2))]))(1.5)
    assert_close(grads, [np.array(n * 1.5**2) for n in (3, 2)], "complex", bound=1e-12)
