"""`scan` against `jax.lax.scan` with edges that are weighted by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from support.passes import by_passes, passes_of
from support.slow import slow
from support.strategies import Unweighted

import seqjax as sj
from seqjax.gradients import ARTBP, K1K2, Discounted, Full, Only, Randomized, Truncated
from seqjax.testing.compare import Failed, assert_close
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

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
    "plain": (7, {}),
    "reverse": (7, {"reverse": True}),
    "unroll": (7, {"unroll": 4}),
    "no xs": (5, {"xs": None}),
    "one step": (1, {}),
    "two steps": (2, {"reverse": True}),
    "reset": (8, {"reset": True}),
    "reset, reverse": (7, {"reset": True, "reverse": True}),
}


@functools.cache
def draws(num_steps, seed):
    """What `randomized` draws from the key of a seed, and the uniform numbers from which `artbp` draws."""

    @quick_jit
    def both(seed):
        key = jax.random.key(seed)
        return jax.random.bernoulli(key, 0.6, (num_steps,)), jax.random.uniform(key, (num_steps,))

    return [np.asarray(drawn) for drawn in both(seed)]


def total(scan, W, h, xs):
    """A loss that is no sum over steps, of a step that closes over `W`, with an integer and a key in its carry."""

    def f(carry, x):
        noise = jnp.sin(jax.random.key_data(carry["key"])[1].astype(float) + carry["n"].astype(float))
        h = jnp.tanh(W @ carry["c"] + 0.5 * carry["h"] + 0.1 * noise + (0 if x is None else x))
        return {**carry, "h": h, "c": 0.8 * carry["c"] + jnp.sin(h), "n": carry["n"] + 1}, {"y": h, "n": carry["n"]}

    init = {"h": h, "c": jnp.ones_like(h), "n": jnp.asarray(3), "key": jax.random.key(1)}
    carry, ys = scan(f, init, xs)
    y = ys["y"]
    return (
        jax.nn.logsumexp(3 * y[:, 0]) + y[0] @ y[-1] + jnp.sum(carry["c"] ** 2) + jnp.sum(0.01 * ys["n"].astype(float))
    )


def arguments(seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape) for shape in ((2, 2), (2,), (8, 2)))


def resets(num_steps):
    return np.arange(num_steps) % 3 == 1


def by_strategy(kind, strategy, seed, W, h, xs):
    """The loss of the scan of a kind with a strategy, which draws from the key of a seed."""
    num_steps, more = KINDS[kind]
    more = dict(more)
    if more.pop("reset", False):
        more["reset"] = resets(num_steps)
    no_xs = "xs" in more

    def scan(f, init, xs):
        given = {"xs": None, "length": num_steps} if no_xs else {"xs": xs[:num_steps]}
        return sj.scan(f, init, **given, **more, gradient=strategy, key=jax.random.key(seed))

    more.pop("xs", None)
    return total(scan, W, h, xs)


def differentiated(kind, strategy, seed):
    return jax.value_and_grad(functools.partial(by_strategy, kind, strategy, seed), (0, 1, 2))


@quick_jit
def by_hand(passes, reset, order, has_xs, W, h, xs):
    """Value and gradients of `total`, for steps that are executed in this order."""

    def scan(f, init, xs):
        carry, ys = by_passes(f, init, has_xs * xs[order], passes, reset[order])
        return carry, jax.tree.map(lambda a: a[order], ys)  # a reversed order is its own inverse

    return jax.value_and_grad(functools.partial(total, scan), (0, 1, 2))(W, h, xs)


def wanted(kind, name, seed=0):
    num_steps, more = KINDS[kind]
    reset, order = resets(num_steps) & ("reset" in more), np.arange(num_steps)
    passes = passes_of(STRATEGIES[name], num_steps, ("h", "c"), draws(num_steps, seed))
    return by_hand(passes, reset, order[:: -1 if "reverse" in more else 1], float("xs" not in more), *arguments(seed))


def seeds():
    """The seeds and the arguments of two problems, side by side."""
    return np.arange(2), *map(np.stack, zip(arguments(0), arguments(1), strict=True))


def plain(kind, strategy):
    """Without `jax.jit`."""
    return differentiated(kind, strategy, 0)(*arguments())


def jitted(kind, strategy):
    return quick_jit(differentiated(kind, strategy, 0))(*arguments())


def in_remat(kind, strategy):
    loss = jax.checkpoint(functools.partial(by_strategy, kind, strategy, 0))
    return quick_jit(jax.value_and_grad(loss, (0, 1, 2)))(*arguments())


def in_vmap(kind, strategy):
    one = lambda seed, *args: differentiated(kind, strategy, seed)(*args)
    return quick_jit(jax.vmap(one))(*seeds())


def in_a_scan(kind, strategy):
    """In the body of another scan, whose iterations have different arguments."""

    def body(_, inputs):
        return None, differentiated(kind, strategy, inputs[0])(*inputs[1:])

    return quick_jit(lambda *inputs: jax.lax.scan(body, None, inputs)[1])(*seeds())


def on_two_devices(kind, strategy):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    def one(seeds, *args):
        results = differentiated(kind, strategy, seeds[0])(*(a[0] for a in args))
        return jax.tree.map(lambda a: a[None], results)

    return quick_jit(jax.shard_map(one, mesh=mesh, in_specs=P("d"), out_specs=P("d")))(*seeds())


def in_all_of_them(kind, strategy):
    """On two devices, in a scan of two iterations, of `vmap` over two problems, of `jax.checkpoint`."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    def one(seed, *args):
        loss = jax.checkpoint(functools.partial(by_strategy, kind, strategy, seed))
        return jax.value_and_grad(loss, (0, 1, 2))(*args)

    def body(inputs, _):
        return inputs, jax.vmap(one)(*inputs)

    def on_one_device(*inputs):
        inputs = [jnp.concatenate([a, a]) for a in inputs]
        results = jax.lax.scan(body, tuple(inputs), length=2)[1]
        return jax.tree.map(lambda a: a[1, 1:], results)

    return quick_jit(jax.shard_map(on_one_device, mesh=mesh, in_specs=P("d"), out_specs=P("d")))(*seeds())


TWO = in_vmap, in_a_scan, on_two_devices, in_all_of_them
CASES = [
    *[(name, kind, way) for name in STRATEGIES for kind in KINDS for way in (jitted, in_all_of_them)],
    *[(name, "plain", way) for name in STRATEGIES for way in (plain, in_remat, in_vmap, in_a_scan, on_two_devices)],
]
QUICK = [(name, "reset, reverse", jitted) for name in ("levels", "only randomized", "artbp, cap")] + [
    ("truncated", "reset, reverse", in_all_of_them)
]


@pytest.mark.parametrize(
    ("name", "kind", "way"), [pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow) for each in CASES]
)
def test_values_and_gradients_are_those_with_edges_weighted_by_hand(name, kind, way):
    want = wanted(kind, name)
    if way in TWO:
        want = jax.tree.map(lambda *a: np.stack(a), want, wanted(kind, name, 1))
    assert_close(way(kind, STRATEGIES[name]), want, f"{name}, {kind}, ")


def losses(carry, ys):
    """A maximum over time, one of the last step, and a product of two steps: losses that are no sums over steps."""
    return jnp.stack([jnp.max(ys), jnp.sum(carry**2), ys[0, 0] * ys[-1, 1]])


def drawing(strategy, noise):
    """The strategy that draws `noise`."""

    class Given(type(strategy)):
        def draw(self, *args):
            return noise

    return Given(**{field.name: getattr(strategy, field.name) for field in dataclasses.fields(strategy)})


def enumerated(strategy):
    """The mean gradients of the losses over all outcomes, and those of `jax.lax.scan`."""

    def gradients(scan, *args):
        return jax.jacrev(lambda *args: losses(*simple(scan, *args)), (0, 1, 2))(*args)

    @quick_jit
    def both(W, h, xs):
        def one(noise):
            given = functools.partial(sj.scan, gradient=drawing(strategy, noise), key=jax.random.key(0))
            return gradients(given, W, h, xs)

        memory = strategy.init(None, (), None)
        outcomes, probabilities = strategy.outcomes(None, (), memory, len(xs))
        mean = jax.tree.map(lambda a: jnp.tensordot(probabilities, a, 1), jax.vmap(one)(outcomes))
        return mean, gradients(jax.lax.scan, W, h, xs)

    W, h, xs = arguments()
    return both(W, h, xs[:5])


@pytest.mark.parametrize("strategy", [*slow(Randomized(keep_prob=0.4)), ARTBP(length=2.0)], ids=["randomized", "artbp"])
def test_the_mean_over_all_outcomes_is_the_gradient_of_any_loss(strategy):
    found, want = enumerated(strategy)
    for n in range(3):  # one by one, since the gradients differ in size
        assert_close(*(jax.tree.map(lambda a, n=n: np.asarray(a)[n], each) for each in (found, want)), f"loss {n}")


def test_a_missing_reweighting_is_found_by_the_mean_over_all_outcomes():
    with pytest.raises(Failed, match="worst relative error"):
        assert_close(*enumerated(Unweighted(keep_prob=0.4)), "1/π left out")


def simple(scan, W, h, xs, **more):
    return scan(lambda h, x: (jnp.tanh(W @ h + x),) * 2, h, xs, **more)


def derivatives(scan, W):
    """Forward and second derivatives of a loss, from one trace of it."""

    def loss(W):
        carry, ys = simple(scan, W, *arguments()[1:])
        return jnp.sum(jnp.sin(ys)) + jnp.sum(carry**3)

    return jax.jacfwd(jax.value_and_grad(loss))(W)


@quick_jit
def derivatives_by_hand(passes, W):
    def scan(f, init, xs):
        def g(carry, x):
            h, y = f(carry["h"], x)
            return {"h": h}, y

        carry, ys = by_passes(g, {"h": init}, xs, passes, resets(len(xs)) & False)
        return carry["h"], ys

    return derivatives(scan, W)


@pytest.mark.parametrize("strategy", [K1K2(k1=2, k2=3), *slow(Full(), Full(levels=1), Truncated(steps=3))], ids=repr)
def test_higher_and_forward_derivatives(strategy):
    """Those with edges weighted by hand, in which a cut is a constant."""
    W = arguments()[0]
    found = quick_jit(functools.partial(derivatives, functools.partial(sj.scan, gradient=strategy)))(W)
    assert_close(found, derivatives_by_hand(passes_of(strategy, 8, ("h",)), W), repr(strategy))


CALLS = [
    lambda scan: scan(lambda c, x: (c + x, None), 0.0, np.arange(5.0)),
    lambda scan: scan(lambda c, _: ((c[0] + 1, c[1] * 2.0), (c[0], {})), (0, 1.0), None, 5),
    lambda scan: scan(lambda c, x: (c, x), None, {"a": np.arange(4), "b": [np.ones((4, 2))]}),
    lambda scan: scan(lambda c, _: (c, c), np.ones(2), (), length=5),
    lambda scan: scan(lambda c, x: (c, x * c), np.ones(2), np.ones((0, 2))),
    lambda scan: scan(lambda k, _: (jax.random.split(k)[0], jax.random.key_data(k)), jax.random.key(0), None, 4)[1],
    lambda scan: scan(lambda c, x: (~c, c & x), jnp.asarray(True), np.array([True, False, True])),
]
"""Python numbers, None, empty trees, no steps, numpy arrays, and outputs without a derivative."""


def test_what_jax_lax_scan_takes_is_taken():
    @quick_jit
    def all_of_them():
        strategies = Full(), Truncated(steps=2), K1K2(k1=2, k2=3), Randomized()
        mine = [functools.partial(sj.scan, gradient=each, key=jax.random.key(0)) for each in strategies]
        return [[call(scan) for call in CALLS] for scan in (jax.lax.scan, *mine)]

    want, *found = all_of_them()
    for got in found:
        assert jax.tree.map(lambda a: a.dtype, got) == jax.tree.map(lambda a: a.dtype, want)
        assert_close(got, want, "results")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simple(sj.scan, *arguments(), gradient=Truncated), "scan takes an instance of a strategy"),
        (lambda: simple(sj.scan, *arguments(), gradient=Randomized()), r"pass a key, such as key=jax.random.key\(0\)"),
        (lambda: simple(sj.scan, *arguments(), gradient=Full(budget="8B")), "a budget of .* is too small for 8 steps"),
        (
            lambda: simple(sj.scan, *arguments(), gradient=Randomized(keep_prob=(0.5, 0.5)), key=jax.random.key(0)),
            "2 entries for",
        ),
        (
            lambda: simple(sj.scan, *arguments(), gradient=Full(), reset=np.zeros(3, bool)),
            r"reset must be bool\[8\], not bool\[3\]",
        ),
        (lambda: simple(sj.scan, *arguments(), gradient=Full(), reset=np.zeros(8)), r"not float64\[8\]"),
        (lambda: simple(sj.scan, *arguments(), gradient=Full(), initial=np.zeros(2)), "pass reset"),
        (
            lambda: simple(sj.scan, *arguments(), gradient=Full(), reset=np.zeros(8, bool), initial=np.zeros(3)),
            r"initial must be like init, with leaves of the shapes \(2,\), not \(3,\)",
        ),
        (
            lambda: simple(
                sj.scan, *arguments(), gradient=Full(), reset=np.zeros(8, bool), initial=np.ones(2, complex)
            ),
            r"initial is complex128\[2\], and init is float64\[2\]",
        ),
        (lambda: simple(sj.scan, *arguments(), gradient=Only(leaves=("v",))), "the state has no variable 'v'"),
        (lambda: simple(sj.scan, *arguments(), gradient=Randomized(), key=0), "key must be one key.*not int"),
        (
            lambda: simple(sj.scan, *arguments(), gradient=Randomized(), key=jax.random.split(jax.random.key(0))),
            r"not key<fry>\[2\]; to draw with several keys, map",
        ),
        # Without steps the arguments are checked, too.
        (lambda: sj.scan(lambda c, x: (c, x), 0.0, np.ones(0), gradient=Randomized()), "pass a key"),
        (lambda: sj.scan(lambda c, x: (c, x), 0.0, np.ones(0), gradient=Full(), reset=np.ones(7)), r"bool\[0\]"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(sj.Error, match=message):
        call()


def test_a_cut_stops_a_gradient_that_is_not_finite():
    """Beyond the cut the gradient overflows, and 0 times infinity would be NaN."""

    @quick_jit
    def gradients(xs):
        def by(scan):
            return jax.grad(lambda xs: scan(lambda c, x: (jnp.sin(c * x), None), 0.1, xs)[0])(xs)

        strategies = Truncated(steps=4), K1K2(k1=4, k2=4), K1K2(k1=2, k2=4)
        return by(jax.lax.scan), [by(functools.partial(sj.scan, gradient=each)) for each in strategies]

    whole, cut = gradients(np.where(np.arange(8) < 4, 1.0, 1e200))
    assert not np.isfinite(whole).all()
    assert_close([np.asarray(each)[:4] for each in cut], [np.zeros(4)] * 3, "before the cut")


WEIGH = {"full", "truncated", "last", "k1k2", "discounted", "only", "randomized", "artbp"}


def test_strategies_that_weigh_edges_scan():
    @quick_jit
    def values(*args):
        options = {"key": jax.random.key(0)}
        found = {name: simple(sj.scan, *args, gradient=sj.create("gradient", name), **options) for name in WEIGH}
        return found, simple(jax.lax.scan, *args)

    found, want = values(*arguments())
    assert_close(found, dict.fromkeys(WEIGH, want), "values")


@pytest.mark.parametrize("name", [name for name in sj.names("gradient") if name not in WEIGH])
def test_every_other_strategy_says_which_function_serves(name):
    strategy = sj.create("gradient", name)
    with pytest.raises(sj.Error, match=f"{type(strategy).__name__}.* needs the losses.*seqjax.value_and_grad"):
        simple(sj.scan, *arguments(), gradient=strategy, key=jax.random.key(0))


@pytest.mark.parametrize("strategy", [Truncated(steps=2), K1K2(k1=2, k2=3), Discounted()], ids=repr)
def test_an_error_of_jax_names_the_users_function(strategy):
    def my_step(h, x):
        return h.astype(jnp.float32), x

    with pytest.raises(TypeError, match=r"carry.*float64"):
        sj.scan(my_step, np.ones(2), np.ones((8, 2)), gradient=strategy)
    with pytest.raises(ValueError, match="scan got"):
        sj.scan(my_step, np.ones(2), (np.ones(8), np.ones(7)), gradient=strategy)


def temporary(strategy, num_steps, argnums):
    """The temporary bytes of a compiled gradient by the weights, or by the inputs."""

    def loss(W, xs):
        h, _ = sj.scan(lambda h, x: (jnp.tanh(h @ W + x), None), jnp.zeros((4, 32)), xs, gradient=strategy)
        return jnp.sum(h**2)

    compiled = jax.jit(jax.grad(loss, argnums)).lower(np.ones((32, 32)), np.ones((num_steps, 4, 32))).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("num_steps", "argnums"), [(1003, 1), *slow((1000, 0), (1000, 1), (1003, 0))])
def test_truncated_keeps_the_states_at_segments_and_one_segment_of_residuals(num_steps, argnums):
    state, steps = 4 * 32 * 8, 20
    few = temporary(Truncated(steps=steps), num_steps, argnums)
    # The gradients of the inputs of the whole segments and of the rest are put together.
    copied = num_steps * state if argnums == 1 and num_steps % steps else 0
    assert few < 1.5 * (num_steps / steps * state + 6 * steps * state) + copied
    assert temporary(Full(), num_steps, argnums) > 8 * (few - copied)
