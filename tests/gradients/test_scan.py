"""`value_and_grad` of every argument of a scan, against `jax.grad` of a Python loop over its steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

import seqjax
from seqjax import value_and_grad
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit
from seqjax.training.devices import ROWS, make_mesh

pytestmark = pytest.mark.usefixtures("x64")

T, B = 7, 2
FULL = seqjax.create("gradient", "full")


def truncated(steps):
    return seqjax.create("gradient", "truncated", steps=steps)


def step(params, state, x):
    """A scan body with two state variables, a counter, and inputs that are not all floats."""
    v = 0.8 * state["v"] + jnp.sin(params["A"] @ state["v"] + params["b"] * x["u"] * state["m"])
    m = 0.7 * state["m"] + jnp.where(x["on"], v[0] * params["b"][1], 0.0)
    new = {"v": v, "m": m, "n": state["n"] + 1}
    return new, (jnp.sum((v - x["y"]) ** 2) + m, {"twice": 2 * v, "n": new["n"]})


def arguments():
    rng = np.random.default_rng(0)
    params = {"A": jnp.asarray(0.5 * rng.normal(size=(3, 3))), "b": jnp.asarray(rng.normal(size=3))}
    state = {"v": jnp.asarray(rng.normal(size=(B, 3))), "m": jnp.asarray(rng.normal(size=B))}
    state["n"] = jnp.array([4, 9], jnp.int32)
    xs = {"u": jnp.asarray(rng.normal(size=(T, B))), "y": jnp.asarray(rng.normal(size=(T, B, 3)))}
    xs["on"] = jnp.asarray(rng.random((T, B)) < 0.5)
    return params, state, xs


def floats_of(tree):
    return eqx.partition(tree, eqx.is_inexact_array)


def loop(params, state, xs, weights, cut=None):
    """The weighted loss by a Python loop over steps and rows, which stops the gradient before each `cut`-th step."""

    def total(params, state_floats, xs_floats):
        state, xs_ = eqx.combine(state_floats, floats_of(arguments_state)[1]), eqx.combine(xs_floats, floats_of(xs)[1])
        loss, outputs = 0.0, []
        for t in range(len(weights)):
            if cut and t and t % cut == 0:
                floats, others = floats_of(state)
                state = eqx.combine(jax.lax.stop_gradient(floats), others)
            rows = [step(params, *jax.tree.map(lambda a, b=b: a[b], (state, x_at(xs_, t)))) for b in range(B)]
            state = jax.tree.map(lambda *a: jnp.stack(a), *[row[0] for row in rows])
            loss += sum(weights[t, b] * row[1][0] for b, row in enumerate(rows))
            outputs.append(jax.tree.map(lambda *a: jnp.stack(a), *[row[1][1] for row in rows]))
        return loss, (state, jax.tree.map(lambda *a: jnp.stack(a), *outputs))

    def x_at(xs, t):
        return jax.tree.map(lambda a: a[t], xs)

    arguments_state = state
    args = params, floats_of(state)[0], floats_of(xs)[0]
    (loss, (state, outputs)), grads = quick_jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(*args)
    return loss, grads, state, outputs


WEIGHTS = np.full((T, B), 1 / (T * B))
CASES = {"full": (FULL, None), "3 of 7": (truncated(3), 3), "1": (truncated(1), 1), "longer": (truncated(9), None)}
CASES["checkpoint"] = (seqjax.create("gradient", "full", checkpoint=True), None)
CASES["levels"] = (seqjax.create("gradient", "full", levels=2), None)
CASES["immediate"] = (seqjax.create("gradient", "immediate"), 1)
CASES["not clipped"] = (seqjax.create("gradient", "clipped", limit=1e6), None)


@pytest.mark.parametrize("name", CASES)
def test_all_arguments_and_outputs(name):
    strategy, cut = CASES[name]
    args = arguments()
    want = loop(*args, WEIGHTS, cut)
    found = quick_jit(value_and_grad(step, strategy, (0, 1, 2), has_aux=True))(*args)
    assert_close((found.loss, found.grads, found.state, found.outputs), want, name)
    assert found.grads[1]["n"] is None
    assert found.grads[2]["on"] is None


@pytest.mark.parametrize("argnums", [0, 1, 2, (2,), (2, 0), (1, 2)])
def test_argnums_choose_and_order_the_gradients(argnums):
    args = arguments()
    all_of_them = loop(*args, WEIGHTS, 3)[1]
    want = tuple(all_of_them[i] for i in argnums) if isinstance(argnums, tuple) else all_of_them[argnums]
    found = quick_jit(value_and_grad(step, truncated(3), argnums, has_aux=True))(*args)
    assert_close(found.grads, want, f"argnums {argnums}")


def test_one_sequence_and_vmap_over_sequences():
    """Each row alone has its own gradient; all rows together have the mean."""
    params, state, xs = args = arguments()
    loss, grads, after, outputs = loop(*args, WEIGHTS, 3)
    one = value_and_grad(step, truncated(3), (0, 1, 2), has_aux=True, batched=False)
    axes = None, 0, 1
    found = quick_jit(jax.vmap(one, axes, seqjax.gradients.Estimate(0, (0, 0, 1), 0, None, 1)))(params, state, xs)
    of_params, *others = found.grads
    mean = jax.tree.map(lambda a: a.mean(0), of_params), *jax.tree.map(lambda a: a / B, others)
    assert_close((found.loss.mean(), mean, found.state, found.outputs), (loss, grads, after, outputs), "vmap")
    alone = one(params, jax.tree.map(lambda a: a[1], state), jax.tree.map(lambda a: a[:, 1], xs))
    of_row = *jax.tree.map(lambda a: a[1], (of_params, others[0])), jax.tree.map(lambda a: a[:, 1], others[1])
    assert_close(alone.grads, of_row, "one sequence")


@pytest.mark.parametrize("name", ["full", "rtrl"])
def test_the_last_loss_alone(name):
    weights = np.zeros((T, B))
    weights[-1] = 1 / B
    want = loop(*arguments(), weights)
    strategy = seqjax.create("gradient", name)
    found = value_and_grad(step, strategy, (0, 1), has_aux=True)(*arguments(), weights="last")
    assert_close((found.loss, found.grads, found.outputs), (want[0], want[1][:2], want[3]), name)


@pytest.mark.parametrize("name", ["full", "3 of 7"])
def test_rows_on_two_devices(name):
    strategy, cut = CASES[name]
    params, state, xs = args = arguments()

    def local(params, state, xs):
        found = value_and_grad(step, strategy, (0, 1, 2), has_aux=True)(params, state, xs)
        of_params, *others = found.grads
        # Each device takes the mean over its own rows.
        return jax.lax.pmean((found.loss, of_params), ROWS), jax.tree.map(lambda a: a / 2, others), found.outputs

    whole, by_row, by_step = PartitionSpec(), PartitionSpec(ROWS), PartitionSpec(None, ROWS)
    run = jax.shard_map(
        local,
        mesh=make_mesh(B, 2),
        in_specs=(whole, by_row, by_step),
        out_specs=(whole, [by_row, by_step], by_step),
        check_vma=False,
    )
    (loss, of_params), others, outputs = quick_jit(run)(params, state, xs)
    want = loop(*args, WEIGHTS, cut)
    assert_close((loss, (of_params, *others), outputs), (want[0], want[1], want[3]), name)


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


def equinox_cell():
    linear = eqx.nn.Linear(4, 3, key=jax.random.key(1))
    return Cell(linear, jnp.tanh, jnp.array(5), jax.random.key(2), 0.1)


def cell_step(cell, h, x):
    h = cell(h, x)
    return h, jnp.sum(h**2)


@pytest.mark.parametrize("name", ["full", "truncated", "rtrl", "es"])
def test_parameters_are_any_pytree(name):
    """Leaves that are no floats are constants, and their gradient is None."""
    cell, h, xs = equinox_cell(), jnp.ones((B, 3)), jnp.asarray(np.random.default_rng(1).normal(size=(4, B)))
    strategy = seqjax.create("gradient", name)
    found = eqx.filter_jit(value_and_grad(cell_step, strategy))(cell, h, xs, key=jax.random.key(0))
    assert (found.grads.activation, found.grads.count, found.grads.key) == (None, None, None)

    @eqx.filter_grad
    def want(cell):
        def body(h, x):
            h, losses = jax.vmap(cell_step, (None, 0, 0))(cell, h, x)
            return h, losses.mean() / len(xs)

        return jax.lax.scan(body, h, xs)[1].sum()

    if name != "es":
        assert_close(eqx.filter(found.grads, eqx.is_array).linear, want(cell).linear, name)
        assert found.grads.scale.shape == ()


def test_a_state_of_flax_is_a_tree_of_parameters():
    graph, params = nnx.split(nnx.Linear(3, 3, rngs=nnx.Rngs(0), param_dtype=jnp.float64))

    def linear(params, h, x):
        h = jnp.tanh(nnx.merge(graph, params, copy=True)(h)) + x
        return h, jnp.sum(h**2)

    h, xs = jnp.ones((B, 3)), jnp.ones((4, B, 3))
    found = quick_jit(value_and_grad(linear, FULL))(params, h, xs)

    def total(params):
        _, losses = jax.lax.scan(lambda h, x: jax.vmap(linear, (None, 0, 0))(params, h, x), h, xs)
        return losses.mean()

    assert_close(nnx.to_pure_dict(found.grads), nnx.to_pure_dict(jax.grad(total)(params)), "flax")


def test_memory_is_carried_with_all_arguments_of_a_window():
    """The ages of the rows pass from window to window, whatever is differentiated."""
    strategy, args = seqjax.create("gradient", "artbp", length=1e6), arguments()
    run = quick_jit(value_and_grad(step, strategy, (0, 2), has_aux=True))
    first = run(*args, key=jax.random.key(0))
    second = run(*args, memory=first.memory, key=jax.random.key(1))
    assert first.memory.rows.tolist() == [T] * B
    assert second.memory.rows.tolist() == [2 * T] * B


MISTAKES = {
    "argnums": ({"argnums": 3}, r"argnums = 3: choose from 0 \(params\), 1 \(state\) and 2 \(xs\)"),
    "twice": ({"argnums": (0, 0)}, r"argnums = \(0, 0\)"),
    "none": ({"argnums": ()}, r"argnums = \(\)"),
    "forward": (
        {"strategy": "forward", "argnums": (0, 2)},
        "cannot differentiate xs, argnums=2; these strategies can: .*full",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_wrong_arguments_are_named(name):
    options, message = MISTAKES[name]
    strategy = seqjax.create("gradient", options.pop("strategy", "full"))
    with pytest.raises(seqjax.Error, match=message):
        value_and_grad(step, strategy, has_aux=True, **options)


def test_calls_that_do_not_fit_are_refused():
    params, state, xs = arguments()
    run = value_and_grad(step, FULL, has_aux=True)
    with pytest.raises(seqjax.Error, match=r"does it return \(loss, outputs\)\? Pass has_aux=True"):
        value_and_grad(step, FULL)(params, state, xs)
    with pytest.raises(seqjax.Error, match=r"with has_aux=True a step must return \(new state, \(loss, outputs\)\)"):
        value_and_grad(lambda p, s, x: (s, jnp.zeros(())), FULL, has_aux=True)(params, state, xs)
    with pytest.raises(seqjax.Error, match=r"weights = 'first' must be \"last\""):
        run(params, state, xs, weights="first")
    with pytest.raises(seqjax.Error, match="a single sequence takes batched=False"):
        run(params, state, {"u": jnp.zeros(T)})
    with pytest.raises(seqjax.Error, match="no parameter is a float"):
        value_and_grad(lambda p, s, x: (s, s), FULL)({"n": jnp.arange(3)}, jnp.ones(1), jnp.ones((2, 1)))
    rtrl = value_and_grad(step, seqjax.create("gradient", "rtrl"), (0, 1), has_aux=True)
    first = rtrl(params, state, xs)
    with pytest.raises(seqjax.Error, match="leave memory out, or differentiate the parameters only, argnums=0"):
        rtrl(params, first.state, xs, memory=first.memory)
