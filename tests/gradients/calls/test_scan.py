"""`value_and_grad` of every argument of a scan, against JAX's own reverse mode through the scan."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.passes import Passes, by_passes

import seqjax
from seqjax import create, estimate, value_and_grad
from seqjax.gradients import Memory
from seqjax.gradients.calls.check_scan import check_scan
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

T, B = 7, 2
FULL = create("gradient", "full")


def step(params, state, x):
    """A scan body with a counter in its state, inputs that are not all floats, and outputs beside the loss."""
    v = jnp.sin(params["a"] * state["v"][::-1] + params["b"] * x["u"])
    loss = jnp.where(x["on"], 0.5, 2.0) * jnp.sum((v - x["y"]) ** 2)
    return {"v": v, "n": state["n"] + 1}, (loss, {"twice": 2 * v, "n": state["n"]})


def arguments():
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=2) for name in "ab"}
    state = {"v": rng.normal(size=(B, 2)), "n": np.array([4, 9], np.int32)}
    xs = {"u": rng.normal(size=(T, B)), "y": rng.normal(size=(T, B, 2)), "on": rng.random((T, B)) < 0.5}
    return params, state, xs


@quick_jit
def by_jax(params, state, xs, weights, kept):
    """Loss, gradients, state and outputs; the state that enters a step is a constant where `kept` is 0."""
    passes, no_reset = Passes(kept[None, :, None], np.zeros(T, int)), np.zeros(T, bool)

    def total(params, v, floats):
        def row(v, n, xs):
            return by_passes(functools.partial(step, params), {"v": v, "n": n}, xs, passes, no_reset)

        state_after, (losses, outputs) = jax.vmap(row, (0, 0, 1), (0, 1))(v, state["n"], floats | {"on": xs["on"]})
        return jnp.sum(weights * losses), (state_after, outputs)

    floats = {name: xs[name] for name in "uy"}
    (loss, rest), grads = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(params, state["v"], floats)
    return loss, (grads[0], {"v": grads[1], "n": None}, grads[2] | {"on": None}), *rest


def wanted(cut=T, weights=1 / (T * B)):
    """The values for a gradient that is cut at positive multiples of `cut`."""
    steps = np.arange(T)
    return by_jax(*arguments(), np.broadcast_to(weights, (T, B)), 1.0 * ((steps == 0) | (steps % cut > 0)))


def found_by(strategy, argnums=(0, 1, 2), **options):
    run = estimate(step, strategy, argnums, has_aux=True, batched=True)
    return quick_jit(lambda *args: run(*args, **options))(*arguments())


def test_value_and_grad_returns_what_that_of_jax_returns():
    """For one sequence. A cut is a `stop_gradient` in the loop."""
    one = jax.tree.map(lambda a: a[0], arguments()[1])
    params, xs = arguments()[0], jax.tree.map(lambda a: a[:, 0], arguments()[2])

    @quick_jit
    def by_loop(params, kept):
        def total(params):
            state, outputs, losses = one, [], []
            for t in range(T):
                entering = jnp.where(kept[t], state["v"], jax.lax.stop_gradient(state["v"]))
                state, (loss, output) = step(params, state | {"v": entering}, jax.tree.map(lambda a, t=t: a[t], xs))
                losses, outputs = [*losses, loss], [*outputs, output]
            return jnp.mean(jnp.stack(losses)), jax.tree.map(lambda *a: jnp.stack(a), *outputs)

        return jax.value_and_grad(total, has_aux=True)(params)

    for strategy, cut in ((FULL, T), (create("gradient", "truncated", steps=3), 3)):
        found = quick_jit(value_and_grad(step, strategy, has_aux=True))(params, one, xs)
        assert_close(found, by_loop(params, np.arange(T) % cut > 0), repr(strategy))
    (loss, _), grads = by_loop(params, np.ones(T, bool))
    run = value_and_grad(lambda *args: (step(*args)[0], step(*args)[1][0]), FULL)
    assert_close(quick_jit(run)(params, one, xs), (loss, grads), "without outputs")


@pytest.mark.parametrize(
    ("name", "fields", "cut"),
    [
        ("full", {}, T),
        ("truncated", {"steps": 3}, 3),
        ("immediate", {}, 1),
        ("clipped", {"limit": 1e6}, T),
        pytest.param("full", {"levels": 2}, T, marks=pytest.mark.slow),
        pytest.param("truncated", {"steps": 9}, T, marks=pytest.mark.slow),
    ],
)
def test_all_arguments_and_outputs(name, fields, cut):
    found = found_by(create("gradient", name, **fields))
    assert_close((found.loss, found.grads, found.state, found.outputs), wanted(cut), name)


@pytest.mark.parametrize("argnums", [1, (2, 0)])
def test_argnums_choose_and_order_the_gradients(argnums):
    grads = wanted()[1]
    want = tuple(grads[i] for i in argnums) if isinstance(argnums, tuple) else grads[argnums]
    assert_close(found_by(FULL, argnums).grads, want, f"argnums {argnums}")


def test_one_sequence_and_vmap_over_sequences():
    """Each row alone has its own gradient; all rows together have the mean."""
    one = estimate(step, FULL, (0, 1, 2), has_aux=True)
    rows = jax.vmap(one, (None, 0, 1), seqjax.gradients.Estimate(0, (0, 0, 1), 0, None, 1))
    found = quick_jit(rows)(*arguments())
    of_params, *others = found.grads
    mean = jax.tree.map(lambda a: np.mean(a, 0), of_params), *jax.tree.map(lambda a: np.divide(a, B), others)
    assert_close((np.mean(found.loss), mean, found.state, found.outputs), wanted(), "vmap")


def test_the_last_loss_alone():
    last = np.zeros((T, B))
    last[-1] = 1 / B
    loss, grads, _, outputs = wanted(weights=last)
    found = found_by(create("gradient", "rtrl"), (0, 1), weights="last")
    assert_close((found.loss, found.grads, found.outputs), (loss, grads[:2], outputs), "rtrl")


class Cell(eqx.Module):
    """A module with an activation function, an integer, a key and a number among its leaves."""

    linear: eqx.nn.Linear
    activation: object
    count: jax.Array
    key: jax.Array
    scale: float

    def __call__(self, h, x):
        noise = jax.random.normal(jax.random.fold_in(self.key, self.count), h.shape)
        return self.activation(self.linear(jnp.append(h, x))) + self.scale * noise


def cell_step(cell, h, x):
    h = cell(h, x)
    return h, jnp.sum(h**2)


@pytest.mark.parametrize("name", ["full", *(pytest.param(n, marks=pytest.mark.slow) for n in ("truncated", "rtrl"))])
def test_parameters_are_any_pytree(name):
    """Leaves that are no floats are constants, and their gradient is None."""
    linear = eqx.filter_jit(eqx.nn.Linear)(4, 3, key=jax.random.key(1))
    cell = Cell(linear, jnp.tanh, np.array(5), jax.random.key(2), 0.1)
    h, xs = np.ones((B, 3)), np.random.default_rng(1).normal(size=(4, B))
    found = eqx.filter_jit(estimate(cell_step, create("gradient", name), batched=True))(cell, h, xs)
    assert (found.grads.activation, found.grads.count, found.grads.key) == (None, None, None)

    @eqx.filter_jit
    @eqx.filter_grad
    def want(cell):
        def body(h, x):
            h, losses = jax.vmap(cell_step, (None, 0, 0))(cell, h, x)
            return h, losses.mean() / len(xs)

        return jax.lax.scan(body, h, xs)[1].sum()

    assert_close(found.grads.linear, want(cell).linear, name)
    assert found.grads.scale.shape == ()


def test_memory_is_carried_with_all_arguments_of_a_window():
    """The ages of the rows pass from window to window, whatever is differentiated."""
    strategy, args = create("gradient", "artbp", length=1e6), arguments()
    run = quick_jit(estimate(step, strategy, (0, 2), has_aux=True, batched=True))
    first = run(*args, memory=Memory(rows=np.zeros(B, np.int32)), key=jax.random.key(0))
    second = run(*args, memory=first.memory, key=jax.random.key(1))
    assert first.memory.rows.tolist() == [T] * B
    assert second.memory.rows.tolist() == [2 * T] * B


@pytest.mark.parametrize(
    ("name", "argnums", "message"),
    [
        ("full", 3, r"argnums = 3: choose from 0 \(params\), 1 \(state\) and 2 \(xs\)"),
        ("full", (0, 0), r"argnums = \(0, 0\)"),
        ("full", (), r"argnums = \(\)"),
        ("forward", (0, 2), "cannot differentiate xs, argnums=2; take a strategy that can, such as full"),
    ],
)
def test_wrong_arguments_are_named(name, argnums, message):
    with pytest.raises(seqjax.Error, match=message):
        estimate(step, create("gradient", name), argnums, has_aux=True, batched=True)


def test_calls_that_do_not_fit_are_refused():
    params, state, xs = arguments()
    run = estimate(step, FULL, has_aux=True, batched=True)
    with pytest.raises(seqjax.Error, match=r"does it return \(loss, outputs\)\? Pass has_aux=True"):
        estimate(step, FULL, batched=True)(params, state, xs)
    with pytest.raises(seqjax.Error, match=r"with has_aux=True a step must return \(new state, \(loss, outputs\)\)"):
        estimate(lambda p, s, x: (s, jnp.zeros(())), FULL, has_aux=True, batched=True)(params, state, xs)
    with pytest.raises(seqjax.Error, match=r"weights = 'first' must be \"last\""):
        run(params, state, xs, weights="first")
    with pytest.raises(seqjax.Error, match="params has no floats, so that"):
        estimate(lambda p, s, x: (s, s), FULL, batched=True)({"n": np.arange(3)}, np.ones(1), np.ones((2, 1)))
    rtrl = estimate(step, create("gradient", "rtrl"), (0, 1), has_aux=True, batched=True)
    first = jax.eval_shape(rtrl, params, state, xs)
    with pytest.raises(seqjax.Error, match="leave memory out, or differentiate the parameters only, argnums=0"):
        jax.eval_shape(lambda memory: rtrl(params, state, xs, memory=memory), first.memory)


ONE, ROWS, STEPS, STEPS_OF_ROWS = np.zeros(()), np.zeros(3), np.ones(4), np.ones((4, 3))


@pytest.mark.parametrize(
    ("state", "xs", "options", "batched"),
    [
        (ONE, STEPS_OF_ROWS, {}, False),
        (ROWS, STEPS, {}, False),
        (ONE, STEPS, {"weights": STEPS_OF_ROWS}, False),
        (ONE, STEPS, {"reset": STEPS_OF_ROWS > 0}, False),
        (ROWS, STEPS, {}, True),
        (ROWS, STEPS_OF_ROWS, {"weights": STEPS}, True),
    ],
)
def test_where_one_argument_has_rows_and_another_has_none_batched_is_named(state, xs, options, batched):
    def step(w, s, x):
        s = 0.5 * s + w * x
        return s, s**2

    with pytest.raises(seqjax.Error, match="batched=True"):
        jax.eval_shape(lambda: estimate(step, FULL, batched=batched)(np.ones(()), state, xs, **options))


@pytest.mark.parametrize(("argnums", "name"), [(1, "state"), ((0, 2), "xs")])
def test_an_argument_without_floats_is_refused_as_jax_grad_refuses_it(argnums, name):
    call = estimate(lambda w, s, x: (s, w), FULL, argnums)
    with pytest.raises(seqjax.Error, match=f"^{name} has no floats"):
        jax.eval_shape(lambda: call(np.ones(()), np.zeros((), int), np.arange(4)))


def iteration(params, state, x):
    """A step that cannot read anything, with a counter in its state and an output."""
    assert x is None
    v = jnp.tanh(params["a"] * state["v"][::-1] + params["b"])
    return {"v": v, "n": state["n"] + 1}, (jnp.sum(v**2), v)


@quick_jit
def by_loop_of(params, state):
    """Loss of T iterations, gradients by the parameters and the state, and outputs, from a loop of JAX."""

    def total(params, v):
        body = lambda s, _: iteration(params, s, None)
        _, (losses, outputs) = jax.lax.scan(body, {"v": v, "n": state["n"]}, None, T)
        return jnp.mean(losses), outputs

    (loss, outputs), grads = jax.value_and_grad(total, (0, 1), has_aux=True)(params, state["v"])
    return loss, (grads[0], {"v": grads[1], "n": None}), outputs


@pytest.mark.parametrize("name", ["full", pytest.param("rtrl", marks=pytest.mark.slow)])
def test_the_iterations_of_a_loop_are_differentiated(name):
    """Alone, and two equal rows side by side, each of which has half of the gradient by the state."""
    params, rows, _ = arguments()
    state = jax.tree.map(lambda a: a[0], rows)
    twice = jax.tree.map(lambda a: np.stack([a, a]), state)
    loss, (by_params, by_state), outputs = by_loop_of(params, state)

    @quick_jit
    def found(params, state, twice):
        strategy = create("gradient", name)
        run = value_and_grad(iteration, strategy, (0, 1), has_aux=True)
        of_rows = value_and_grad(iteration, strategy, (0, 1), has_aux=True, batched=True)
        return run(params, state, length=T), of_rows(params, twice, None, length=T)

    one, both = found(params, state, twice)
    assert_close(one, ((loss, outputs), (by_params, by_state)), "one sequence")
    stacked = {"v": np.stack([np.asarray(by_state["v"]) / 2] * 2), "n": None}
    assert_close(both, ((loss, np.stack([outputs, outputs], 1)), (by_params, stacked)), "two rows")


def test_windows_of_iterations_carry_the_memory_and_the_outputs_of_a_problem():
    """RTRL over two windows has the gradient of all steps. The problem says itself that its step has outputs."""
    params, rows, _ = arguments()
    state = jax.tree.map(lambda a: a[0], rows)
    loss, (by_params, _), outputs = by_loop_of(params, state)
    run = estimate(seqjax.Problem(iteration, has_aux=True), create("gradient", "rtrl"))

    @quick_jit
    def found(params, state):
        first = run(params, state, length=3)
        second = run(params, first.state, length=T - 3, memory=first.memory)
        whole = estimate(seqjax.Problem(iteration, has_aux=True), FULL)(params, state, length=T)
        mean = lambda one, other: (3 * one + (T - 3) * other) / T
        return jax.tree.map(mean, (first.loss, first.grads), (second.loss, second.grads)), whole.outputs

    assert_close(found(params, state), ((loss, by_params), outputs), "rtrl")


def test_only_steps_that_read_nothing_are_wrapped():
    """Strategies look at the problem of a model, so that it has to stay as it is."""
    params, state, xs = arguments()
    problem = seqjax.Problem(step)
    assert check_scan(problem, params, state, xs, None, True, True, T).problem is problem
    reading_nothing = seqjax.Problem(lambda w, s, x: (s, w * len(x)), init_state=lambda w, key=None: w)
    scan = check_scan(reading_nothing, 1.0, state, {}, None, False, True, T)
    assert (scan.xs.shape, scan.weights.shape) == ((T, B), (T, B))
    assert scan.problem.init_state is reading_nothing.init_state


def test_a_length_that_does_not_fit_is_refused():
    run = estimate(lambda w, s, x: (s, w * s), FULL, (0, 2))
    with pytest.raises(seqjax.Error, match=r"^xs = None has no arrays, so that the number of steps is not known"):
        run(1.0, 1.0)
    with pytest.raises(seqjax.Error, match=r"^xs = None has no arrays, so that there is nothing to differentiate$"):
        run(1.0, 1.0, length=T)
    with pytest.raises(seqjax.Error, match=r"^length = 8, and the leaves of xs have T = 7: leave length out$"):
        run(1.0, 1.0, np.ones(T), length=8)
