"""kf-rtrl and ok: one draw from the equations, all draws, the smallest variance, and the order of the variances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.influence import B, H, T, V, of_model, states_of
from support.parts import ravel

import seqjax as sj
from seqjax.gradients import init_memory, leaf_names, sign_patterns
from seqjax.testing.compare import Failed, assert_close
from seqjax.testing.proofs.claims import check_unbiased_history
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import KFRTRL, OK, RTRL, UORO, _kronecker
from seqjax_models import GRU, LSTM, RNN

pytestmark = pytest.mark.usefixtures("x64")

TOKENS, VALUES = sj.Spec(sj.Tokens(V)), sj.Spec(sj.Values(2))
MODELS = {"rnn": (RNN(hidden=H), TOKENS), "gru": (GRU(hidden=H), VALUES), "lstm": (LSTM(hidden=H), TOKENS)}
MODELS |= {"sparse rnn": (RNN(hidden=H, density=0.5), TOKENS), "sparse gru": (GRU(hidden=H, density=0.5), VALUES)}


def shorten_to_one(products, signs):
    """The rule of kf-rtrl for two products."""
    (u, A), (a, D) = products
    ratio = lambda x, y: np.sqrt((np.linalg.norm(x) + 1e-7) / (np.linalg.norm(y) + 1e-7))
    p0, p1 = ratio(A, u), ratio(D, a)
    return [(p0 * u + signs[0] * p1 * a, A / p0 + signs[0] * D / p1)]


def keep_all(products, signs):
    """No product is lost, so that the sum is exact."""
    return products


def by_equations(c, derivatives, noise, shorten):
    """The gradients of three windows, in a loop over steps and rows.

    Args:
        c: a case of a `Cell`.
        derivatives: those of its windows.
        noise: for each window bool[B, T, signs].
        shorten: (list of products (u, A), signs) -> a shorter list.
    """
    names = [name for name, a in leaf_names(c.params, "params") for _ in range(a.size)]
    columns = {name: np.array([n == name for n in names]) for name in dict.fromkeys(names)}
    W_xh, W_hh, b_h, b_hh = (columns[f"layer_0.{name}"] for name in ("W_xh", "W_hh", "b_h", "b_hh"))
    model, masks = c.problem.model, {"W_xh": True}
    own = model.recurrent_mask(0)
    masks["W_hh"] = True if own is None else np.tile(own, model.blocks).ravel()
    found, carried = [], {}
    for d, batch, entering, bits in zip(derivatives, c.windows, states_of(c), noise, strict=True):
        total, weights = 0.0, np.asarray(batch.weights)
        for b in range(B):
            if b not in carried or batch.reset[b]:
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
                    M[name] = shorten([*((u, J @ A) for u, A in before), (a[name], D)], signs)
                M["exact"] = J @ M["exact"] + np.where(b_h | b_hh, I, 0)
        found.append(total)
    return found


def run(strategy, c, noise):
    """The gradients of three windows for given signs, with memory carried."""

    @quick_jit
    def one(state, memory, batch, bits):
        start, memory = sj.gradients.reset_rows(strategy, c.problem, c.params, state, memory, batch.reset)
        e = strategy.estimate(c.problem, c.params, start, memory, batch, bits)
        return e.grads, e.state, e.memory

    state, memory, found = c.state, init_memory(strategy, c.problem, c.params, c.state, B), []
    for batch, bits in zip(c.windows, noise, strict=True):
        grads, state, memory = one(state, memory, batch, bits)
        found.append(ravel(grads))
    return found


def signs_for(strategy):
    return np.random.default_rng(5).random((3, B, T, strategy.num_signs)) < 0.5


@pytest.mark.parametrize(
    "name", ["gru", "sparse rnn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rnn", "lstm"))]
)
def test_one_draw_of_kf_rtrl_follows_the_equations(name):
    c, steps = of_model(*MODELS[name])
    noise = signs_for(KFRTRL())
    assert_close(run(KFRTRL(), c, noise), by_equations(c, steps, noise, shorten_to_one), name, 1e-11)


@pytest.mark.parametrize("name", ["lstm", "sparse gru", pytest.param("gru", marks=pytest.mark.slow)])
def test_a_sum_that_is_long_enough_is_exact(name):
    """Three units, and so matrices of three or five rows: no more products are needed."""
    c, steps = of_model(*MODELS[name])
    noise = signs_for(OK(rank=5))
    assert_close(run(OK(rank=5), c, noise), by_equations(c, steps, noise, keep_all), name, 1e-11)


@pytest.mark.parametrize("name", ["rnn", "gru"])
def test_a_sum_that_is_long_enough_is_that_of_rtrl_in_a_sparse_cell(name):
    model, spec = {"rnn": (RNN(hidden=8, density=0.3), TOKENS), "gru": (GRU(hidden=8, density=0.3), VALUES)}[name]
    c, _ = of_model(model, spec)
    assert not c.problem.model.recurrent_mask(0).all()
    # Matrices of five, two and eight rows have no more products.
    assert_close(run(OK(rank=8), c, signs_for(OK(rank=8))), run(RTRL(), c, [()] * 3), name, 1e-10)


@pytest.mark.parametrize("strategy", [KFRTRL(), OK(rank=1)], ids=repr)
def test_all_signs_average_to_the_gradient_of_a_sparse_cell(strategy):
    """One window from M = 0, with the same signs in both rows, since their gradients are added."""
    c, _ = of_model(*MODELS["sparse rnn"])
    batch, memory = c.windows[0], init_memory(strategy, c.problem, c.params, c.state, B)
    start = lambda params: c.problem.start(params, c.state, batch.reset)

    def one(bits):
        noise = jnp.broadcast_to(bits, (B, *bits.shape))
        return strategy.estimate(c.problem, c.params, start, memory, batch, noise).grads

    patterns, p = sign_patterns(T * strategy.num_signs)
    grads = quick_jit(jax.vmap(one))(patterns.reshape(-1, T, strategy.num_signs))
    mean = jax.tree.map(lambda g: np.tensordot(p, g, 1), grads)
    exact = RTRL().estimate(c.problem, c.params, start, init_memory(RTRL(), c.problem, c.params, c.state, B), batch, ())
    assert_close(mean, exact.grads, "mean", 1e-10)
    assert not np.allclose(grads["layer_0"]["W_hh"][0], mean["layer_0"]["W_hh"])  # one draw is not exact


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("strategy", [KFRTRL(), OK(rank=8)], ids=repr)
def test_parameters_of_half_precision(strategy, dtype):
    """Two steps, in which kf-rtrl has no variance, since there is nothing to mix in the first one."""
    rng = np.random.default_rng(0)
    shapes = {"W": (3, 3), "U": (2, 3), "b": (3,)}
    params = {name: jnp.asarray(0.5 * rng.normal(size=shape), dtype) for name, shape in shapes.items()}
    xs = jnp.asarray(rng.normal(size=(2, 2)), dtype)

    def step(p, s, u):
        s = jnp.tanh(s @ p["W"] + u @ p["U"] + p["b"])
        return s, jnp.sum(s**2)

    def grads(strategy, dtype):
        given = jax.tree.map(lambda a: a.astype(dtype), (params, jnp.full(3, 0.5), xs))
        return sj.value_and_grad(step, strategy, batched=False)(*given, key=jax.random.key(0)).grads

    found, exact = grads(strategy, dtype), grads(RTRL(), "float64")
    assert {str(a.dtype) for a in jax.tree.leaves(found)} == {dtype}
    found = jax.tree.map(lambda a: a.astype("float64"), found)
    assert_close(found, exact, dtype, {"bfloat16": 3e-2, "float16": 3e-3}[dtype])


@pytest.mark.parametrize("strategy", [KFRTRL(), OK(rank=3)], ids=repr)
def test_what_is_carried_is_as_large_as_they_say(strategy):
    """r (S m + n) numbers for a matrix, S for each entry of a vector, and nothing for the read-out."""
    size, count = 16, lambda rows: sum(a.size for a in jax.tree.leaves(rows))
    problem = sj.Problem.of(RNN(hidden=size), sj.Spec(sj.Tokens(2000)))
    params = problem.init(jax.random.key(0))
    r, state = strategy.length, problem.init_state(params)
    of_W_xh, of_W_hh, of_b_h = r * (size * size + 2000), r * (size * size + size), size * size
    assert count(strategy.init(problem, params, state).rows) == of_W_xh + of_W_hh + of_b_h

    # The inputs of a bare step are not known before the first window.
    bare = sj.Problem(problem.step, problem.init_state)
    wide = r * (size + 1) * (2000 + size + 2000) + size * (size + 2000)
    assert count(strategy.init(bare, params, state).rows) == wide


@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        (OK(rank=1), ["foreign"]),
        pytest.param(OK(rank=2), ["learned", "foreign"], marks=pytest.mark.slow),
        pytest.param(OK(rank=3), ["learned", "foreign"], marks=pytest.mark.slow),
        pytest.param(KFRTRL(), ["learned", "foreign", "small"], marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_all_signs_average_to_the_gradient_of_the_history(strategy, names):
    check_unbiased_history(strategy, names)


def random_sum(rng, length, n=6, size=4, m=5, decay=0.3):
    """A sum of Kronecker products whose terms become smaller."""
    scale = decay ** np.arange(length)
    return _kronecker.Sum(
        jnp.asarray(rng.normal(size=(length, n)) * scale[:, None]), jnp.asarray(rng.normal(size=(length, size, m)))
    )


def moments(strategy, products):
    """The mean of the shortened sum over all signs, as a matrix, and its variance, summed over the entries."""
    patterns, p = sign_patterns(strategy.num_signs)
    short = quick_jit(jax.vmap(lambda bits: strategy.shorten(products, jnp.where(bits, 1.0, -1.0))))(patterns)
    dense = np.einsum("kln,klsm->knsm", *short)
    mean = np.tensordot(p, dense, 1)
    return mean, float(np.asarray(p) @ np.sum((dense - mean) ** 2, (1, 2, 3)))


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
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
    """The influence matrix float[S, P] of a memory of one sequence, of uoro, rtrl, kf-rtrl or ok."""
    if isinstance(rows, tuple):
        s_tilde, theta_tilde = jax.tree.map(lambda a: a[0], rows)
        return jnp.outer(s_tilde, jnp.concatenate([a.ravel() for a in jax.tree.leaves(theta_tilde)]))
    if len(rows) == 1:
        return jnp.concatenate([a.reshape(len(a), -1) for a in rows[0]], 1)
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
    params = {name: jnp.asarray(rng.normal(size=shape) / shape[0] ** 0.5) for name, shape in shapes.items()}
    s, xs = jnp.asarray(rng.normal(size=size)), jnp.asarray(rng.normal(size=(num_steps, 2)))

    def step(params, s, u):
        return jnp.tanh(s @ params["W"] + u @ params["U"] + params["b"]), s.sum()

    return step, params, s, xs


def variance_of(strategy, size, num_steps):
    """The exact variance of the influence matrix of a tanh network after some steps from M = 0, by its squared norm.

    It is the sum over all entries. All signs of the steps are enumerated.
    """
    step, params, s, xs = tanh_network(size, num_steps)

    def matrix(strategy, noise):
        memory = strategy.init(problem, params, s)
        batch = sj.gradients.Batch(xs[:, None], jnp.ones((num_steps, 1)), None, jnp.zeros(1, jnp.int32))
        memory, noise = jax.tree.map(lambda a: a[None], (memory, noise))
        after = strategy.estimate(problem, params, lambda _: s[None], memory, batch, noise).memory.rows
        return matrix_of(jax.tree.map(lambda a: a[0], after), params)

    problem = sj.Problem(step)
    # `uoro` also draws signs for the start, which has no influence here.
    first, each = (1, size) if isinstance(strategy, UORO) else (0, strategy.num_signs)
    count = 2 ** (num_steps * each)

    def moments_of(number):
        bits = (number >> jnp.arange(num_steps * each)) & 1
        signs = jnp.pad(bits.reshape(num_steps, each) > 0, ((first, 0), (0, 0)))
        M = matrix(strategy, signs[None] if isinstance(strategy, UORO) else signs)
        return M, jnp.sum(M * M)

    @jax.jit
    def run():
        exact = matrix(RTRL(), ())

        def body(total, numbers):
            return jax.tree.map(lambda a, b: a + b.sum(0), total, jax.vmap(moments_of)(numbers)), None

        numbers = jnp.arange(count).reshape(-1, min(count, 256))
        (total, square), _ = jax.lax.scan(body, (jnp.zeros_like(exact), jnp.zeros(())), numbers)
        return exact, total / count, square / count

    exact, mean, square = map(np.asarray, run())
    assert_close(mean, exact, repr(strategy), 1e-5)  # the signs of the start add about 1e-7 to the mean of uoro
    return float((square - np.sum(mean**2)) / np.sum(exact**2))


@pytest.mark.parametrize(
    ("size", "steps"), [(3, 3), pytest.param(3, 5, marks=pytest.mark.slow), pytest.param(8, 2, marks=pytest.mark.slow)]
)
def test_the_variances_are_in_the_order_of_the_theorems(size, steps):
    """OK(rank) falls with the rank, and lies below kf-rtrl, which lies below uoro by more than the number of units."""
    strategies = [OK(rank=2), OK(rank=1), KFRTRL(), UORO()]
    found = [variance_of(strategy, size, steps) for strategy in strategies]
    print(f"S = {size}, {steps} steps: " + ", ".join(f"{s!r} {v:.3g}" for s, v in zip(strategies, found, strict=True)))
    assert found[0] <= found[1] <= found[2] * (1 + 1e-9)
    assert found[2] < found[3] / size


@pytest.mark.parametrize("size", [3, 8])
def test_the_first_variances_are_those_of_the_equations(size):
    """`uoro` has S - 1 after a step, E |ν νᵀ I|² - |I|², and `kf-rtrl` none, since there is nothing to mix.

    In the second step two products are mixed for each matrix, u ⊗ A and a ⊗ D. With p0 and p1 of kf-rtrl the variance
    of one of them is 2 |u| |A| |a| |D| + 2 (u · a) (A · D), and the least one is 2 d_1 d_2, from the singular values.
    """
    assert variance_of(UORO(), size, 1) == pytest.approx(size - 1, rel=1e-5)
    assert variance_of(KFRTRL(), size, 1) == pytest.approx(0, abs=1e-6)

    step, params, s0, xs = tanh_network(size, 2)
    s1, _ = step(params, s0, xs[0])
    s2, _ = step(params, s1, xs[1])
    s0, s1, s2, xs = map(np.asarray, (s0, s1, s2, xs))
    J, D1, D2 = np.diag(1 - s2**2) @ np.asarray(params["W"]).T, np.diag(1 - s1**2), np.diag(1 - s2**2)
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
        lambda method, self, carried, derivatives, window: method(
            self, carried, derivatives, window._replace(noise=jnp.broadcast_to(window.noise[:1], window.noise.shape))
        ),
    ),
    "M begins anew with each window": (
        "follow",
        lambda method, self, carried, derivatives, window: method(
            self, jax.tree.map(jnp.zeros_like, carried), derivatives, window
        ),
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


@pytest.mark.parametrize("fault", ["the length of a twice", "the influence on the initial state is lost"])
def test_planted_faults_of_the_factors_are_found(fault, monkeypatch):
    if fault == "the length of a twice":
        factors = _kronecker.factors

        def faulty(*args):
            J, leaves = factors(*args)
            return J, [(2 * each[0], each[1]) if isinstance(each, tuple) and each else each for each in leaves]

        monkeypatch.setattr(_kronecker, "factors", faulty)
    else:
        monkeypatch.setattr(_kronecker, "_plus_start", lambda found, M, start, params: M)
    jax.clear_caches()
    with pytest.raises(Failed):
        check_unbiased_history(KFRTRL(), ["foreign"])
    jax.clear_caches()
