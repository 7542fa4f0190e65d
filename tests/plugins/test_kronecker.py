"""kf-rtrl and ok: one draw from the equations, all draws, the smallest variance, and the order of the variances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.influence import B, H, Rtrl, T, V, by_hand, follow, of_model, run, states_of

import seqjax as sj
from seqjax.gradients import KFRTRL, OK, UORO, Batch, init_memory, leaf_names, sign_patterns
from seqjax.models import GRU, LSTM, RNN
from seqjax.testing.compare import Failed, assert_close, assert_far
from seqjax.testing.proofs.claims import check_unbiased_history
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.influence import _kronecker

pytestmark = pytest.mark.usefixtures("x64")

TOKENS, VALUES = sj.Spec(sj.Tokens(V)), sj.Spec(sj.Values(2))
MODELS = {"rnn": (RNN(hidden=H), TOKENS), "gru": (GRU(hidden=H), VALUES), "lstm": (LSTM(hidden=H), TOKENS)}
MODELS |= {"sparse rnn": (RNN(hidden=H, density=0.5), TOKENS), "sparse gru": (GRU(hidden=H, density=0.5), VALUES)}
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name != "sparse rnn")) for name in MODELS]


def shorten_to_one(products, signs):
    """The rule of kf-rtrl for two products."""
    (u, A), (a, D) = products
    ratio = lambda x, y: np.sqrt((np.linalg.norm(x) + 1e-7) / (np.linalg.norm(y) + 1e-7))
    p0, p1 = ratio(A, u), ratio(D, a)
    return [(p0 * u + signs[0] * p1 * a, A / p0 + signs[0] * D / p1)]


def by_equations(c, derivatives, noise):
    """The gradients of kf-rtrl in three windows, in a loop over steps and rows.

    Args:
        c: a case of a `Cell`.
        derivatives: those of its windows.
        noise: for each window bool[B, T, signs].
    """
    names = [name for name, a in leaf_names(c.params, "params") for _ in range(a.size)]
    columns = {name: np.array([n == name for n in names]) for name in dict.fromkeys(names)}
    W_xh, W_hh, b_h, b_hh = (columns[f"layer_0.{name}"] for name in ("W_xh", "W_hh", "b_h", "b_hh"))
    model, masks = c.problem.model, {"W_xh": True}
    own = model.recurrent_mask(0)
    masks["W_hh"] = True if own is None else np.tile(own, model.blocks).ravel()
    found, carried = [], {}
    for d, batch, entering, bits in zip(derivatives, c.windows, states_of(c), noise, strict=True):
        total, weights, reset = 0.0, np.asarray(batch.weights), np.asarray(batch.reset)
        for b in range(B):
            if b not in carried or reset[b]:
                carried[b] = {"exact": np.zeros(d.I.shape[2:]), "W_xh": [], "W_hh": []}
            M = carried[b]
            for t in range(T):
                estimate = M["exact"].copy()
                for name, where in (("W_xh", W_xh), ("W_hh", W_hh)):
                    for u, A in M[name]:
                        estimate[:, where] += np.einsum("n,sm->snm", u, A).reshape(len(A), -1) * masks[name]
                total = total + weights[t, b] * (d.q[b, t] @ estimate + d.direct[b, t])
                J, I = d.J[b, t], d.I[b, t]
                x = np.asarray(batch.xs[0])[t, b]
                a = {"W_xh": np.eye(V)[x] if c.problem.spec == TOKENS else x, "W_hh": entering.layers[0].h[t, b]}
                signs = np.where(bits[b, t], 1.0, -1.0)
                for name, bias in (("W_xh", b_h), ("W_hh", b_hh)):
                    D = I[:, bias]
                    before = M[name] or [(0 * a[name], 0 * D)]
                    M[name] = shorten_to_one([*((u, J @ A) for u, A in before), (a[name], D)], signs)
                M["exact"] = J @ M["exact"] + np.where(b_h | b_hh, I, 0)
        found.append(total)
    return found


def gradients(strategy, c, noise):
    return [grads for _, grads, _ in run(strategy, c, noise)]


def signs_for(strategy):
    return np.random.default_rng(5).random((3, B, T, strategy.num_signs)) < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_one_draw_of_kf_rtrl_follows_the_equations(name):
    c, steps = of_model(*MODELS[name])
    noise = signs_for(KFRTRL())
    assert_close(gradients(KFRTRL(), c, noise), by_equations(c, steps, noise), name, 1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_a_sum_that_is_long_enough_is_that_of_rtrl(name):
    """Three units, and so matrices of two, three or five rows: no more products are needed."""
    c, steps = of_model(*MODELS[name])
    assert "sparse" not in name or not c.problem.model.recurrent_mask(0).all()
    assert_close(run(OK(rank=5), c, signs_for(OK(rank=5))), by_hand(c, steps, Rtrl), name, 1e-11)


@pytest.mark.parametrize("strategy", [KFRTRL(), pytest.param(OK(rank=1), marks=pytest.mark.slow)], ids=repr)
def test_all_signs_average_to_the_gradient_of_a_sparse_cell(strategy):
    """One window from M = 0, with the same signs in both rows, since their gradients are added."""
    c, steps = of_model(*MODELS["sparse rnn"])
    c = c._replace(windows=c.windows[:1])
    patterns, p = map(np.asarray, strategy.outcomes(c.problem, c.params, None, T))
    noise = np.stack([patterns[:, None]] * B, 2)
    of_signs = jax.vmap(lambda noise: follow(strategy, c.problem, c.params, c.state, c.windows, noise).grads)
    draws = np.concatenate([a.reshape(len(p), -1) for a in jax.tree.leaves(quick_jit(of_signs)(noise))], 1)
    assert_close(p @ draws, by_hand(c, steps[:1], Rtrl)[0][1], "mean", 1e-10)
    assert_far(draws, np.broadcast_to(p @ draws, draws.shape), "single draws", at_least=1e-5)


def two_steps(strategy, dtype):
    """The gradient of two steps of a tanh network with a learned initial state: by the strategy, and the right one.

    Twice, since a sequence may start with its window or inside of one. Here kf-rtrl has no variance, since there is
    nothing to mix in the first step.
    """
    rng = np.random.default_rng(0)
    shapes = {"W": (3, 3), "U": (2, 3), "b": (3,), "start": (3,)}
    params = {name: jnp.asarray(0.5 * rng.normal(size=shape), dtype) for name, shape in shapes.items()}
    xs = jnp.asarray(rng.normal(size=(2, 2)), dtype)

    def step(p, s, u):
        s = jnp.tanh(s @ p["W"] + u @ p["U"] + p["b"])
        return s, jnp.sum(s**2)

    def loss(p, xs):
        first, of_first = step(p, p["start"], xs[0])
        return (of_first + step(p, first, xs[1])[1]) / 2

    problem, state, key = sj.Problem(step, lambda p, key=None: p["start"]), jnp.zeros((1, 3), dtype), jax.random.key(0)
    memory = init_memory(strategy, problem, params, state, 1, xs[0])
    batch = Batch(xs[:, None], jnp.full((2, 1), 0.5, dtype), jnp.array([True]), jnp.zeros(1, jnp.int32))
    reset = np.array([[True], [False]])
    inside = sj.estimate(problem, strategy, batched=True)(params, state, batch.xs, key=key, reset=reset)
    found = [e.grads for e in (strategy(problem, params, state, memory, batch, key), inside)]
    return found, [jax.grad(loss)(*jax.tree.map(lambda a: a.astype("float64"), (params, xs)))] * 2


HALF = [(OK(rank=8), "bfloat16"), (OK(rank=8), "float16"), (KFRTRL(), "bfloat16"), (KFRTRL(), "float16")]


@pytest.mark.parametrize("traced", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("strategy", "dtype"), [HALF[0], *(pytest.param(*each, marks=pytest.mark.slow) for each in HALF[1:])], ids=repr
)
def test_parameters_of_half_precision(strategy, dtype, traced):
    """Decompositions are those of float32: JAX traces no others."""
    run = lambda: two_steps(strategy, dtype)
    found, exact = jax.eval_shape(run) if traced else quick_jit(run)()
    assert {str(a.dtype) for a in jax.tree.leaves(found)} == {dtype}
    if not traced:
        assert_close(found, exact, dtype, {"bfloat16": 3e-2, "float16": 3e-3}[dtype])


@pytest.mark.parametrize("strategy", [KFRTRL(), OK(rank=3)], ids=repr)
def test_what_is_carried_is_as_large_as_they_say(strategy):
    """r (S m + n) numbers for a matrix, S for each entry of a vector, and nothing for the read-out."""
    size, r = 16, strategy.length
    problem = sj.Problem.of(RNN(hidden=size), sj.Spec(sj.Tokens(2000)))
    params = jax.eval_shape(problem.init, jax.random.key(0))

    def count(problem, x=None):
        first = lambda params: strategy.init(problem, params, problem.init_state(params), x).rows
        return sum(a.size for a in jax.tree.leaves(jax.eval_shape(first, params)))

    of_W_xh, of_W_hh, of_b_h = r * (size * size + 2000), r * (size * size + size), size * size
    assert count(problem) == of_W_xh + of_W_hh + of_b_h

    bare = sj.Problem(problem.step, problem.init_state)
    assert count(bare, problem.x_like) == count(problem)
    with pytest.raises(sj.Error, match="must know what a step reads: pass x"):
        count(bare)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        (OK(rank=1), ["foreign"]),
        *((OK(rank=rank), ["learned", "foreign"]) for rank in (2, 3)),
        (KFRTRL(), ["learned", "foreign", "small"]),
    ],
    ids=repr,
)
def test_all_signs_average_to_the_gradient_of_the_history(strategy, names):
    check_unbiased_history(strategy, names)


def random_sum(rng, length, n=6, size=4, m=5, decay=0.3):
    """A sum of Kronecker products whose terms become smaller."""
    scale = decay ** np.arange(length)
    return _kronecker.Sum(rng.normal(size=(length, n)) * scale[:, None], rng.normal(size=(length, size, m)))


@functools.partial(quick_jit, static_argnums=0)
def shortened(strategy, products):
    """The sum shortened with each pattern of signs, and the probabilities of the patterns."""
    patterns, p = sign_patterns(strategy.num_signs)
    return jax.vmap(lambda bits: strategy.shorten(products, jnp.where(bits, 1.0, -1.0)))(jnp.asarray(patterns)), p


def moments(strategy, products):
    """The mean of the shortened sum over all signs, as a matrix, and its variance, summed over the entries."""
    short, p = jax.tree.map(np.asarray, shortened(strategy, products))
    dense = np.einsum("kln,klsm->knsm", *short)
    mean = np.tensordot(p, dense, 1)
    return mean, float(p @ np.sum((dense - mean) ** 2, (1, 2, 3)))


@pytest.mark.parametrize("rank", [1, 3, *(pytest.param(rank, marks=pytest.mark.slow) for rank in (2, 5))])
@pytest.mark.parametrize("decay", [1.0, 0.3, 0.01])
def test_the_mean_is_kept_with_the_least_variance(rank, decay):
    """That of theorem 1 of Benzing et al.: s² / (r - m) - Σ_{i > m} d_i², for the least m with (r - m) d_{m+1} ≤ s."""
    products = random_sum(np.random.default_rng(rank), rank + 1, decay=decay)
    mean, variance = moments(OK(rank=rank), products)
    whole = np.einsum("ln,lsm->nsm", *products)
    assert_close(mean, whole, "mean", 1e-12)
    d = np.linalg.svd(whole.reshape(len(whole), -1), compute_uv=False)[: rank + 1]
    d = np.append(d, np.zeros(rank + 1 - len(d)))
    m = next(m for m in range(rank) if (rank - m) * d[m] <= d[m:].sum() * (1 + 1e-12))
    assert variance == pytest.approx(d[m:].sum() ** 2 / (rank - m) - np.sum(d[m:] ** 2), rel=1e-9, abs=1e-12)


def test_no_other_sum_of_one_product_has_less_variance():
    """kf-rtrl chooses another one, with the same mean."""
    for seed in range(20):
        products = random_sum(np.random.default_rng(seed), 2, decay=1.0)
        (one, least), (other, more) = (moments(strategy, products) for strategy in (OK(rank=1), KFRTRL()))
        assert_close(one, other, "mean", 1e-6)  # that of kf-rtrl has a small number added to its norms
        assert least <= more * (1 + 1e-9)


def matrix_of(rows, params):
    """The influence matrix float[S, P] of a memory of one sequence, of uoro, kf-rtrl or ok."""
    if isinstance(rows, tuple):
        s_tilde, theta_tilde = jax.tree.map(lambda a: a[0], rows)
        return jnp.outer(s_tilde, jnp.concatenate([a.ravel() for a in jax.tree.leaves(theta_tilde)]))
    parts = []
    for m, leaf in zip(rows, jax.tree.leaves(params), strict=True):
        if leaf.ndim == 2:
            m = jnp.einsum("ln,lsm->snm", m.u[:, : leaf.shape[0]], m.A[:, :, : leaf.shape[1]])
        parts.append(m.reshape(len(m), -1))
    return jnp.concatenate(parts, 1)


def tanh_network(size, num_steps):
    """A step, its parameters, a state and inputs."""
    rng = np.random.default_rng(size)
    shapes = {"W": (size, size), "U": (2, size), "b": (size,)}
    params = {name: rng.normal(size=shape) / shape[0] ** 0.5 for name, shape in shapes.items()}
    s, xs = rng.normal(size=size), rng.normal(size=(num_steps, 2))

    def step(params, s, u):
        return jnp.tanh(s @ params["W"] + u @ params["U"] + params["b"]), s.sum()

    return step, params, s, xs


@functools.cache
def variance_of(strategy, size, num_steps):
    """The exact variance of the influence matrix of a tanh network after some steps from M = 0, by its squared norm.

    It is the sum over all entries. All signs of the steps are enumerated.
    """
    step, params, s, xs = tanh_network(size, num_steps)
    problem = sj.Problem(step)
    # `uoro` also draws signs for the start, which has no influence here.
    first, each = (1, size) if isinstance(strategy, UORO) else (0, strategy.num_signs)
    count = 2 ** (num_steps * each)

    @quick_jit
    def run(params, s, xs):
        memory = jax.tree.map(lambda a: a[None], strategy.init(problem, params, s, xs[0]))
        batch = Batch(xs[:, None], jnp.ones((num_steps, 1)), None, jnp.zeros(1, jnp.int32))

        def matrix(number):
            bits = (number >> jnp.arange(num_steps * each)) & 1
            noise = jnp.pad(bits.reshape(num_steps, each) > 0, ((first, 0), (0, 0)))[None]
            noise = noise[None] if isinstance(strategy, UORO) else noise
            after = strategy.estimate(problem, params, lambda _: s[None], memory, batch, noise).memory.rows
            return matrix_of(jax.tree.map(lambda a: a[0], after), params)

        def body(total, numbers):
            M = jax.vmap(matrix)(numbers)
            return jax.tree.map(jnp.add, total, (M.sum(0), jnp.sum(M * M))), None

        end = lambda params: jax.lax.scan(lambda s, x: step(params, s, x), s, xs)[0]
        exact = jnp.concatenate([a.reshape(size, -1) for a in jax.tree.leaves(jax.jacrev(end)(params))], 1)
        numbers = jnp.arange(count).reshape(-1, min(count, 256))
        (total, square), _ = jax.lax.scan(body, (jnp.zeros_like(exact), jnp.zeros(())), numbers)
        return exact, total / count, square / count

    exact, mean, square = map(np.asarray, run(params, s, xs))
    assert_close(mean, exact, repr(strategy), 1e-5)  # the signs of the start add about 1e-7 to the mean of uoro
    return float((square - np.sum(mean**2)) / np.sum(exact**2))


@pytest.mark.parametrize(
    ("size", "steps"), [(3, 2), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((3, 3), (3, 5), (8, 2)))]
)
def test_the_variances_are_in_the_order_of_the_theorems(size, steps):
    """OK(rank) falls with the rank, and lies below kf-rtrl, which lies below uoro by more than the number of units."""
    strategies = [OK(rank=2), OK(rank=1), KFRTRL(), UORO()]
    found = [variance_of(strategy, size, steps) for strategy in strategies]
    print(f"S = {size}, {steps} steps: " + ", ".join(f"{s!r} {v:.3g}" for s, v in zip(strategies, found, strict=True)))
    assert found[0] <= found[1] <= found[2] * (1 + 1e-9)
    assert found[2] < found[3] / size


@pytest.mark.parametrize("size", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_the_first_variances_are_those_of_the_equations(size):
    """`uoro` has S - 1 after a step, E |ν νᵀ I|² - |I|², and `kf-rtrl` none, since there is nothing to mix.

    In the second step two products are mixed for each matrix, u ⊗ A and a ⊗ D. With p0 and p1 of kf-rtrl the variance
    of one of them is 2 |u| |A| |a| |D| + 2 (u · a) (A · D), and the least one is 2 d_1 d_2, from the singular values.
    """
    assert variance_of(UORO(), size, 1) == pytest.approx(size - 1, rel=1e-5)
    assert variance_of(KFRTRL(), size, 1) == pytest.approx(0, abs=1e-6)

    _, params, s0, xs = tanh_network(size, 2)
    s1 = np.tanh(s0 @ params["W"] + xs[0] @ params["U"] + params["b"])
    s2 = np.tanh(s1 @ params["W"] + xs[1] @ params["U"] + params["b"])
    J, D1, D2 = np.diag(1 - s2**2) @ params["W"].T, np.diag(1 - s1**2), np.diag(1 - s2**2)
    whole = lambda u1, u2: np.einsum("n,sm->snm", u1, J @ D1) + np.einsum("n,sm->snm", u2, D2)
    norm, by_kf, least = np.linalg.norm, 0.0, 0.0
    for u1, u2 in ((s0, s1), xs):
        by_kf += 2 * norm(u1) * norm(J @ D1) * norm(u2) * norm(D2) + 2 * (u1 @ u2) * np.sum((J @ D1) * D2)
        d = np.linalg.svd(np.moveaxis(whole(u1, u2), 1, 0).reshape(len(u1), -1), compute_uv=False)
        least += 2 * d[0] * d[1]
    square = sum(np.sum(whole(*pair) ** 2) for pair in ((s0, s1), xs)) + np.sum((J @ D1 + D2) ** 2)
    assert variance_of(KFRTRL(), size, 2) == pytest.approx(by_kf / square, rel=1e-5)
    assert variance_of(OK(rank=1), size, 2) == pytest.approx(least / square, rel=1e-9)
    assert variance_of(OK(rank=2), size, 2) == pytest.approx(0, abs=1e-12)


def without_signs(shorten, self, products, signs):
    return shorten(self, products, jnp.ones_like(signs))


def with_sign_of_u_alone(shorten, self, products, signs):
    u, A = products
    return shorten(self, _kronecker.Sum(u, A * jnp.sign(signs[0])), signs)


def without_the_last_product(shorten, self, products, signs):
    return _kronecker.Sum(products.u[:-1], products.A[:-1])


FAULTS = {
    "no signs": ("shorten", without_signs),
    "the sign of u alone": ("shorten", with_sign_of_u_alone),
    "the new product is lost": ("shorten", without_the_last_product),
    "M is not multiplied by J": (
        "_next",
        lambda method, self, entry, M, J, derivative, signs: method(self, entry, M, 0 * J, derivative, signs),
    ),
    "one sign for all steps": (
        "follow",
        lambda method, self, *args: method(self, *args[:-1], jnp.broadcast_to(args[-1][:1], args[-1].shape)),
    ),
    "M begins anew with each window": (
        "follow",
        lambda method, self, carried, *args: method(self, jax.tree.map(jnp.zeros_like, carried), *args),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [KFRTRL(), OK(rank=1)], ids=repr)
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(strategy, fault, monkeypatch):
    name, faulty = FAULTS[fault]
    method = getattr(type(strategy), name)
    monkeypatch.setattr(type(strategy), name, lambda self, *args: faulty(method, self, *args))
    jax.clear_caches()
    with pytest.raises(Failed):
        check_unbiased_history(strategy, ["foreign"])
    jax.clear_caches()


def test_planted_faults_of_the_factors_are_found(monkeypatch):
    """One program serves all faults, of which the argument chooses one."""
    factors, plus_start = _kronecker.factors, _kronecker._plus_start

    def planted(fault):
        def twice_as_long(*args):
            J, leaves = factors(*args)
            length = jnp.where(fault == 1, 2.0, 1.0)
            return J, [(length * each[0], each[1]) if isinstance(each, tuple) and each else each for each in leaves]

        def lost(found, M, start, params):
            return jax.tree.map(
                lambda old, new: jnp.where(fault == 2, old, new), M, plus_start(found, M, start, params)
            )

        monkeypatch.setattr(_kronecker, "factors", twice_as_long)
        monkeypatch.setattr(_kronecker, "_plus_start", lost)
        return two_steps(KFRTRL(), "float64")

    planted = quick_jit(planted)
    assert_close(*planted(0), "no fault", 1e-10)
    assert_far(*planted(1), "the length of a is twice that of a")
    assert_far(*planted(2), "the influence on the initial state is lost")
