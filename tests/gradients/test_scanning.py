"""`scan` against `jax.lax.scan` where nothing is cut, and else against a Python loop with edges weighted by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from support.strategies import Unweighted

import seqjax as sj
from seqjax.testing.compare import Failed, assert_close
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import ARTBP, K1K2, Discounted, Full, Only, Randomized, Truncated

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(7)
STRATEGIES = {
    "full": Full(),
    "levels": Full(levels=2),
    "budget": Full(budget="2kB"),
    "truncated": Truncated(steps=3),
    "truncated 1": Truncated(steps=1),
    "k1 < k2 - k1": K1K2(k1=1, k2=4),
    "k1 > k2 - k1": K1K2(k1=3, k2=4),
    "discounted": Discounted(discount=0.7),
    "only": Only(Truncated(steps=2), leaves=("h",)),
    "randomized": Randomized(keep_prob=0.6),
    "only randomized": Only(Randomized(keep_prob=0.6), leaves=("h",)),
    "artbp": ARTBP(length=3.0),
    "artbp, cap": ARTBP(length=3.0, cap=2),
}
EXACT = {"full", "levels", "budget"}
# num_steps, and the other arguments of the scan.
KINDS = {
    "plain": (8, {}),
    "reverse": (7, {"reverse": True}),
    "unroll": (7, {"unroll": 4}),
    "no xs": (5, {"xs": None}),
    "one step": (1, {}),
    "two steps": (2, {"reverse": True}),
    "reset": (8, {"reset": True}),
    "reset, reverse": (7, {"reset": True, "reverse": True}),
}


def weights_of(strategy, num_steps, key):
    """The weights of the edges by hand, in the order of execution, from what the strategy draws."""
    steps = np.arange(num_steps)
    if isinstance(strategy, Only):
        return weights_of(strategy.strategy, num_steps, key)
    if isinstance(strategy, Truncated):
        return jnp.where((steps > 0) & (steps % strategy.steps == 0), 0.0, 1.0)
    if isinstance(strategy, Discounted):
        return jnp.full(num_steps, strategy.discount)
    if isinstance(strategy, Randomized):
        return jnp.where(jax.random.bernoulli(key, strategy.keep_prob, (num_steps,)), 1 / strategy.keep_prob, 0)
    if isinstance(strategy, ARTBP):
        uniform, age, weights = jax.random.uniform(key, (num_steps,)), jnp.asarray(0), []
        for u in uniform:
            hazard = (strategy.alpha - 1) / ((strategy.alpha - 2) * strategy.length + age + 1)
            hazard = jnp.where(age + 1 >= (strategy.cap or np.inf), 1, hazard)
            cut = u < hazard
            weights.append(jnp.where(cut, 0, 1 / jnp.where(cut, 1, 1 - hazard)))
            age = jnp.where(cut, 0, age + 1)
        return jnp.stack(weights)
    return jnp.ones(num_steps)


def by_loop(f, init, xs=None, length=None, reverse=False, unroll=1, *, gradient, key, reset=None):
    """The scan as a loop."""
    steps = range(length) if xs is None else range(len(xs))
    steps = list(steps)[::-1] if reverse else list(steps)
    weights = None if isinstance(gradient, K1K2) else weights_of(gradient, len(steps), key)
    leaves = gradient.leaves if isinstance(gradient, Only) else ()

    def run(carry, first, last, enters=lambda _: None):
        """The steps from `first` to `last` in the order of execution: the carry after them, and their outputs."""
        ys = []
        for i in range(first, last):
            carry = weigh(carry, enters(i), leaves)
            if reset is not None:
                carry = jax.tree.map(functools.partial(jnp.where, reset[steps[i]]), init, carry)
            carry, y = f(carry, None if xs is None else xs[steps[i]])
            ys.append(y)
        return carry, ys

    if weights is not None:
        carry, ys = run(init, 0, len(steps), lambda i: weights[i])
    else:
        ys = []
        for block in range(0, len(steps), gradient.k1):
            first = max(0, block + gradient.k1 - gradient.k2)
            enter = init if first == 0 else weigh(run(init, 0, first)[0], 0.0, ())
            carry, some = run(enter, first, min(block + gradient.k1, len(steps)))
            ys += some[block - first :]
    return carry, jax.tree.map(lambda *a: jnp.stack(a), *(ys[::-1] if reverse else ys))


def weigh(carry, weight, leaves):
    """The carry with the tangents of some leaves, () for all, multiplied by a weight; None: unchanged."""

    def leaf(name, a):
        if weight is None or (leaves and name not in leaves) or not jnp.issubdtype(a.dtype, jnp.inexact):
            return a
        constant = jax.lax.stop_gradient(a)
        return constant + weight * (a - constant)

    return {name: leaf(name, a) for name, a in carry.items()}


def total(scan, kind, strategy, key, W, h, xs):
    """A loss that is no sum over steps, of a step that closes over `W`, with an integer and a key in its carry."""
    num_steps, more = KINDS[kind]
    more = dict(more)
    if more.pop("reset", False):
        more["reset"] = jnp.arange(num_steps) % 3 == 1
    arguments = {"length": num_steps} if "xs" in more else {"xs": xs[:num_steps]}

    def f(carry, x):
        noise = jax.random.normal(jax.random.fold_in(carry["key"], carry["n"]), (2,))
        h = jnp.tanh(W @ carry["c"] + 0.5 * carry["h"] + 0.1 * noise + (0 if x is None else x))
        return {**carry, "h": h, "c": 0.8 * carry["c"] + jnp.sin(h), "n": carry["n"] + 1}, {"y": h, "n": carry["n"]}

    init = {"h": h, "c": jnp.ones_like(h), "n": jnp.asarray(3), "key": jax.random.key(1)}
    more.pop("xs", None)
    carry, ys = scan(f, init, **arguments, **more, gradient=strategy, key=key)
    y = ys["y"]
    return (
        jax.nn.logsumexp(3 * y[:, 0]) + y[0] @ y[-1] + jnp.sum(carry["c"] ** 2) + jnp.sum(0.01 * ys["n"].astype(float))
    )


def arguments(seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=shape)) for shape in ((2, 2), (2,), (8, 2)))


def differentiated(scan, kind, strategy, key=KEY):
    return jax.value_and_grad(functools.partial(total, scan, kind, strategy, key), (0, 1, 2))


@functools.cache
def wanted(kind, name, seed=0):
    """The value and the gradients of the loop, or of `jax.lax.scan` if nothing is cut."""
    scan = by_loop
    if name in EXACT and "reset" not in kind:

        def scan(*args, gradient, key, **more):
            return jax.lax.scan(*args, **more)

    with jax.enable_x64(True):
        return quick_jit(differentiated(scan, kind, STRATEGIES[name], jax.random.fold_in(KEY, seed)))(*arguments(seed))


def seeds():
    """The keys and the arguments of two problems, side by side."""
    keys = jnp.stack([jax.random.fold_in(KEY, seed) for seed in range(2)])
    return keys, *jax.tree.map(lambda *a: jnp.stack(a), *(arguments(seed) for seed in range(2)))


def plain(kind, strategy):
    """Without `jax.jit`."""
    return differentiated(sj.scan, kind, strategy, jax.random.fold_in(KEY, 0))(*arguments())


def jitted(kind, strategy):
    return quick_jit(differentiated(sj.scan, kind, strategy, jax.random.fold_in(KEY, 0)))(*arguments())


def in_remat(kind, strategy):
    loss = jax.checkpoint(functools.partial(total, sj.scan, kind, strategy, jax.random.fold_in(KEY, 0)))
    return quick_jit(jax.value_and_grad(loss, (0, 1, 2)))(*arguments())


def in_vmap(kind, strategy):
    one = lambda key, *args: differentiated(sj.scan, kind, strategy, key)(*args)
    return quick_jit(jax.vmap(one))(*seeds())


def in_a_scan(kind, strategy):
    """In the body of another scan, whose iterations have different arguments."""

    def body(_, inputs):
        return None, differentiated(sj.scan, kind, strategy, inputs[0])(*inputs[1:])

    return quick_jit(lambda *inputs: jax.lax.scan(body, None, inputs)[1])(*seeds())


def on_two_devices(kind, strategy):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    def one(keys, *args):
        results = differentiated(sj.scan, kind, strategy, keys[0])(*(a[0] for a in args))
        return jax.tree.map(lambda a: a[None], results)

    return quick_jit(jax.shard_map(one, mesh=mesh, in_specs=P("d"), out_specs=P("d")))(*seeds())


def in_all_of_them(kind, strategy):
    """On two devices, in a scan of two iterations, of `vmap` over two problems, of `jax.checkpoint`."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    def one(key, *args):
        loss = jax.checkpoint(functools.partial(total, sj.scan, kind, strategy, key))
        return jax.value_and_grad(loss, (0, 1, 2))(*args)

    def body(inputs, _):
        return inputs, jax.vmap(one)(*inputs)

    def on_one_device(*inputs):
        inputs = [jnp.concatenate([a, a]) for a in inputs]
        results = jax.lax.scan(body, tuple(inputs), length=2)[1]
        return jax.tree.map(lambda a: a[1, 1:], results)

    return quick_jit(jax.shard_map(on_one_device, mesh=mesh, in_specs=P("d"), out_specs=P("d")))(*seeds())


ONE = plain, jitted, in_remat
TWO = in_vmap, in_a_scan, on_two_devices, in_all_of_them
CASES = [
    *[(name, kind, way) for name in STRATEGIES for kind in KINDS for way in (jitted, in_all_of_them)],
    *[(name, "plain", way) for name in STRATEGIES for way in (plain, in_remat, in_vmap, in_a_scan, on_two_devices)],
]
QUICK = [(name, "reset, reverse", jitted) for name in ("levels", "k1 > k2 - k1", "only randomized", "artbp, cap")] + [
    ("truncated", "plain", in_all_of_them)
]


@pytest.mark.parametrize(
    ("name", "kind", "way"), [pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow) for each in CASES]
)
def test_values_and_gradients_are_those_of_a_loop(name, kind, way):
    check(name, kind, way)


def check(name, kind, way):
    want = wanted(kind, name)
    if way in TWO:
        want = jax.tree.map(lambda *a: jnp.stack(a), want, wanted(kind, name, 1))
    return assert_close(way(kind, STRATEGIES[name]), want, f"{name}, {kind}, ")


LOSSES = {
    "a maximum over time": lambda carry, ys: jnp.max(ys),
    "the last step": lambda carry, ys: jnp.sum(carry**2),
    "a product of two steps": lambda carry, ys: ys[0, 0] * ys[-1, 1],
}


def drawing(strategy, noise):
    """The strategy that draws `noise`."""

    class Given(type(strategy)):
        def draw(self, *args):
            return noise

    return Given(**{field.name: getattr(strategy, field.name) for field in dataclasses.fields(strategy)})


def enumerated(strategy, loss, reverse=False):
    """The mean gradient over all outcomes, and that of `jax.lax.scan`."""
    W, h, xs = arguments()
    xs = xs[:5]

    def value(scan, W, h, xs):
        return loss(*scan(lambda h, x: (jnp.tanh(W @ h + x),) * 2, h, xs, reverse=reverse))

    def one(noise):
        given = functools.partial(sj.scan, gradient=drawing(strategy, noise), key=KEY)
        return jax.grad(functools.partial(value, given), (0, 1, 2))(W, h, xs)

    memory = strategy.init(None, (), None)
    outcomes, probabilities = strategy.outcomes(None, (), memory, len(xs))
    grads = quick_jit(jax.vmap(one))(outcomes)
    mean = jax.tree.map(lambda a: jnp.tensordot(probabilities, a, 1), grads)
    return mean, jax.grad(functools.partial(value, jax.lax.scan), (0, 1, 2))(W, h, xs)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("strategy", [Randomized(keep_prob=0.4), ARTBP(length=2.0)], ids=["randomized", "artbp"])
def test_the_mean_over_all_outcomes_is_the_gradient_of_any_loss(strategy, loss):
    assert_close(*enumerated(strategy, LOSSES[loss]), loss)


def test_a_missing_reweighting_is_found_by_the_mean_over_all_outcomes():
    with pytest.raises(Failed, match="worst relative error"):
        assert_close(*enumerated(Unweighted(keep_prob=0.4), LOSSES["a maximum over time"]), "1/π left out")


def simple(scan, W, h, xs, **more):
    return scan(lambda h, x: (jnp.tanh(W @ h + x),) * 2, h, xs, **more)


@pytest.mark.parametrize("strategy", [Full(), Full(levels=1), Truncated(steps=3), K1K2(k1=2, k2=3)], ids=repr)
def test_higher_and_forward_derivatives(strategy):
    """Those of the loop, in which a cut is a constant."""
    args = arguments()

    def loss(scan, W):
        carry, ys = simple(scan, W, *args[1:], gradient=strategy, key=None)
        return jnp.sum(jnp.sin(ys)) + jnp.sum(carry**3)

    def derivatives(scan):
        value = functools.partial(loss, scan)
        return [quick_jit(of(value))(args[0]) for of in (jax.jacfwd, jax.hessian)]

    assert_close(derivatives(sj.scan), derivatives(by_array_loop), repr(strategy))


def by_array_loop(f, init, xs, **more):
    def g(carry, x):
        h, y = f(carry["h"], x)
        return {"h": h}, y

    carry, ys = by_loop(g, {"h": init}, xs, **more)
    return carry["h"], ys


@pytest.mark.parametrize("strategy", [Full(), Truncated(steps=2), K1K2(k1=2, k2=3), Randomized()], ids=repr)
def test_what_jax_lax_scan_takes_is_taken(strategy):
    """Python numbers, None, empty trees, no steps, numpy arrays, and outputs without a derivative."""
    scan = functools.partial(sj.scan, gradient=strategy, key=KEY)
    calls = [
        lambda scan: scan(lambda c, x: (c + x, None), 0.0, np.arange(5.0)),
        lambda scan: scan(lambda c, _: ((c[0] + 1, c[1] * 2.0), (c[0], {})), (0, 1.0), None, 5),
        lambda scan: scan(lambda c, x: (c, x), None, {"a": jnp.arange(4), "b": [jnp.ones((4, 2))]}),
        lambda scan: scan(lambda c, _: (c, c), jnp.ones(2), (), length=5),
        lambda scan: scan(lambda c, x: (c, x * c), jnp.ones(2), jnp.ones((0, 2))),
        lambda scan: scan(lambda k, _: (jax.random.split(k)[0], jax.random.key_data(k)), jax.random.key(0), None, 4)[1],
        lambda scan: scan(lambda c, x: (~c, c & x), jnp.asarray(True), jnp.asarray([True, False, True])),
    ]
    for call in calls:
        got, want = call(scan), call(jax.lax.scan)
        assert jax.tree.map(lambda a: a.dtype, got) == jax.tree.map(lambda a: a.dtype, want)
        assert_close(got, want, repr(strategy))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simple(sj.scan, *arguments(), gradient=Truncated), "scan takes an instance of a strategy"),
        (lambda: simple(sj.scan, *arguments(), gradient=Randomized()), r"pass a key, such as key=jax.random.key\(0\)"),
        (lambda: simple(sj.scan, *arguments(), gradient=Full(budget="8B")), "a budget of .* is too small for 8 steps"),
        (lambda: simple(sj.scan, *arguments(), gradient=Randomized(keep_prob=(0.5, 0.5)), key=KEY), "2 entries for"),
        (
            lambda: simple(sj.scan, *arguments(), gradient=Full(), reset=jnp.zeros(3, bool)),
            r"reset must be bool\[8\], not bool\[3\]",
        ),
        (lambda: simple(sj.scan, *arguments(), gradient=Full(), reset=jnp.zeros(8)), r"not float64\[8\]"),
        (lambda: simple(sj.scan, *arguments(), gradient=Full(), initial=jnp.zeros(2)), "pass reset"),
        (
            lambda: simple(sj.scan, *arguments(), gradient=Full(), reset=jnp.zeros(8, bool), initial=jnp.zeros(3)),
            r"initial must be like init, with leaves of the shapes \(2,\), not \(3,\)",
        ),
        (
            lambda: simple(
                sj.scan, *arguments(), gradient=Full(), reset=jnp.zeros(8, bool), initial=jnp.ones(2, complex)
            ),
            r"initial is complex128\[2\], and init is float64\[2\]",
        ),
        (lambda: simple(sj.scan, *arguments(), gradient=Only(leaves=("v",))), "the state has no variable 'v'"),
        (lambda: simple(sj.scan, *arguments(), gradient=Randomized(), key=0), "key must be one key.*not int"),
        (
            lambda: simple(sj.scan, *arguments(), gradient=Randomized(), key=jax.random.split(KEY)),
            r"not key<fry>\[2\]; to draw with several keys, map",
        ),
        # Without steps the arguments are checked, too.
        (lambda: sj.scan(lambda c, x: (c, x), 0.0, jnp.ones(0), gradient=Randomized()), "pass a key"),
        (lambda: sj.scan(lambda c, x: (c, x), 0.0, jnp.ones(0), gradient=Full(), reset=jnp.ones(7)), r"bool\[0\]"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(sj.Error, match=message):
        call()


@pytest.mark.parametrize("strategy", [Truncated(steps=4), K1K2(k1=4, k2=4), K1K2(k1=2, k2=4)], ids=repr)
def test_a_cut_stops_a_gradient_that_is_not_finite(strategy):
    """Beyond the cut the gradient overflows, and 0 times infinity would be NaN."""
    xs = jnp.where(jnp.arange(8) < 4, 1.0, 1e200)

    def last(xs):
        return sj.scan(lambda c, x: (jnp.sin(c * x), None), jnp.asarray(0.1), xs, gradient=strategy)[0]

    grads = jax.grad(last)(xs)
    assert not jnp.isfinite(
        jax.grad(lambda xs: jax.lax.scan(lambda c, x: (jnp.sin(c * x), None), 0.1, xs)[0])(xs)
    ).all()
    assert_close(grads[:4], jnp.zeros(4), "before the cut")


@pytest.mark.parametrize("name", sj.names("gradient"))
def test_every_strategy_scans_or_says_which_function_serves(name):
    strategy = sj.create("gradient", name)
    if name in ("full", "truncated", "k1k2", "discounted", "only", "randomized", "artbp"):
        assert_close(
            simple(sj.scan, *arguments(), gradient=strategy, key=KEY), simple(jax.lax.scan, *arguments()), name
        )
    else:
        with pytest.raises(sj.Error, match=f"{type(strategy).__name__} needs the losses.*seqjax.value_and_grad"):
            simple(sj.scan, *arguments(), gradient=strategy, key=KEY)


@pytest.mark.parametrize("strategy", [Truncated(steps=2), K1K2(k1=2, k2=3), Discounted()], ids=repr)
def test_an_error_of_jax_names_the_users_function(strategy):
    def my_step(h, x):
        return h.astype(jnp.float32), x

    with pytest.raises(TypeError, match=r"carry.*float64"):
        sj.scan(my_step, jnp.ones(2), jnp.ones((8, 2)), gradient=strategy)
    with pytest.raises(ValueError, match="scan got"):
        sj.scan(my_step, jnp.ones(2), (jnp.ones(8), jnp.ones(7)), gradient=strategy)


def temporary(strategy, num_steps, argnums):
    """The temporary bytes of a compiled gradient by the weights, or by the inputs."""

    def loss(W, xs):
        h, _ = sj.scan(lambda h, x: (jnp.tanh(h @ W + x), None), jnp.zeros((4, 32)), xs, gradient=strategy)
        return jnp.sum(h**2)

    compiled = jax.jit(jax.grad(loss, argnums)).lower(jnp.ones((32, 32)), jnp.ones((num_steps, 4, 32))).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("argnums", [0, 1])
@pytest.mark.parametrize("num_steps", [1000, 1003])
def test_truncated_keeps_the_states_at_segments_and_one_segment_of_residuals(num_steps, argnums):
    state, steps = 4 * 32 * 8, 20
    few = temporary(Truncated(steps=steps), num_steps, argnums)
    # The gradients of the inputs of the whole segments and of the rest are put together.
    copied = num_steps * state if argnums == 1 and num_steps % steps else 0
    assert few < 1.5 * (num_steps / steps * state + 6 * steps * state) + copied
    assert temporary(Full(), num_steps, argnums) > 8 * (few - copied)
