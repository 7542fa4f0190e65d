"""How many iterations must a gradient see?   python experiments/depth.py --seeds 5

TO BE WRITTEN.
"""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.gradients import Full, Implicit, Last
from seqjax.optimizers import Adam

BITS, WORD = 12, 3
HIDDEN = 16
ITERATIONS = 15
BATCH = 32
QUARTERS = 4

GRADIENTS = {
    "all": Full(),
    "last 8": Last(steps=8),
    "last 4": Last(steps=4),
    "last 3": Last(steps=3),
    "last 2": Last(steps=2),
    "last 1": Last(steps=1),
    "implicit": Implicit(max_restarts=1),
}


def draw() -> tuple[np.ndarray, np.ndarray]:
    """All inputs in a random order, float32[2^BITS, BITS], and the parity of all bits up to the end of each word."""
    inputs = np.arange(2**BITS)[:, None] >> np.arange(BITS) & 1
    inputs = np.random.default_rng(0).permutation(inputs)
    parities = np.cumsum(inputs, axis=1)[:, WORD - 1 :: WORD] % 2
    return inputs.astype(np.float32), parities.astype(np.float32)


def init(key):
    """The weights of an iteration, which is a contraction at first, and those that read an answer."""
    k1, k2, k3 = jax.random.split(key, 3)
    fan_in = 3 * HIDDEN + 1
    iteration = {
        "w1": 0.8 * jax.random.normal(k1, (fan_in, 2 * HIDDEN)) / fan_in**0.5,
        "b1": jnp.zeros(2 * HIDDEN),
        "w2": 0.8 * jax.random.normal(k2, (2 * HIDDEN, HIDDEN)) / (2 * HIDDEN) ** 0.5,
        "b2": jnp.zeros(HIDDEN),
    }
    return {"iteration": iteration, "readout": {"w": jax.random.normal(k3, (HIDDEN,)) / HIDDEN**0.5, "b": jnp.zeros(())}}


def iterate(params, s, bits):
    """One iteration: each position reads its own state, those of its two neighbours, and its bit."""
    edge = jnp.zeros((1, HIDDEN))
    read = jnp.concatenate([jnp.concatenate([edge, s[:-1]]), s, jnp.concatenate([s[1:], edge]), bits[:, None]], axis=1)
    return jnp.tanh(jax.nn.relu(read @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"])


def read_logits(params, s):
    """The logit that the parity is odd, at the last bit of each word."""
    return s[WORD - 1 :: WORD] @ params["w"] + params["b"]


def loss(params, s, parities):
    logits = read_logits(params, s)
    return jnp.mean(jax.nn.softplus(logits) - parities * logits)


def think(params, bits, gradient):
    """The state after all iterations."""
    return sj.while_loop(
        lambda s: jnp.bool_(True), lambda s: iterate(params, s, bits), jnp.zeros((BITS, HIDDEN)), ITERATIONS, gradient
    )


def train(gradient, data, updates: int, seeds: int):
    """Trains the network once for each seed.

    Returns:
        The parameters at the start of each quarter of the training and after it, leaves [seeds, QUARTERS + 1, ...], and
        the share of the examples of the training whose gradient was finite, float[seeds].
    """
    data = jax.tree.map(jnp.asarray, data)
    optimizer = Adam(learning_rate=0.003, clip_norm=1.0, schedule="cosine", warmup=0.05).build(updates)
    value_and_grad = jax.grad(lambda params, x, y: loss(params["readout"], think(params["iteration"], x, gradient), y))

    def update(carry, key):
        params, moments = carry
        x, y = (a[jax.random.randint(key, (BATCH,), 0, len(a))] for a in data)
        grads = jax.vmap(value_and_grad, (None, 0, 0))(params, x, y)
        # `Implicit` gives NaN where the state is no fixed point: such an example is left out of the mean.
        finite = jax.vmap(lambda grad: jnp.isfinite(jax.flatten_util.ravel_pytree(grad)[0]).all())(grads)
        count = jnp.maximum(finite.sum(), 1)
        mean = lambda a: jnp.where(finite.reshape(-1, *[1] * (a.ndim - 1)), a, 0).sum(0) / count
        change, moments = optimizer.update(jax.tree.map(mean, grads), moments)
        return (jax.tree.map(jnp.add, params, change), moments), finite.mean()

    def quarter(carry, keys):
        after, finite = jax.lax.scan(update, carry, keys)
        return after, (carry[0], finite)

    def run(key):
        key, init_key = jax.random.split(key)
        params = init(init_key)
        keys = jax.random.split(key, (QUARTERS, updates // QUARTERS))
        (params, _), (starts, finite) = jax.lax.scan(quarter, (params, optimizer.init(params)), keys)
        return jax.tree.map(lambda a, last: jnp.concatenate([a, last[None]]), starts, params), finite.mean()

    return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), seeds))
