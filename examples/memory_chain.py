"""An agent learns online to remember a bit until the end of a chain (MemoryChain of bsuite, Osband et al. 2020).

    python examples/memory_chain.py
    python examples/memory_chain.py --lengths 4 --seeds 2 --updates 5000 --figure chain.png

A chain of n steps shows a bit at its first step. The action at its last step earns 1 if it names this bit, and else -1.
The other actions have no effect. Actor and critic read a recurrent trace unit (RTU), and the parameters change after
every step, by the TD error times an eligibility trace of the gradients of the value and of log π. These gradients go
through the whole episode (`rtrl`), through one step (`truncated`), or through the last K steps (`rolling`). The return
arrives at the last step, and the bit was read n - 1 steps before, so that the gradient of the last K steps reaches it
if K is at least n. The action has no effect on what the agent sees, and so no trace replaces this gradient.

Environments side by side, agent and learner are one compiled scan, and so are the seeds.
"""

import argparse
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax.gradients import RTRL, Rolling, Truncated
from seqjax.models import RTU

ROWS, DISCOUNT, TRACE, LEARNING_RATE, LAST = 8, 0.99, 0.5, 3e-3, 100
GRADIENTS = {
    "rtrl": RTRL(),
    "truncated(1)": Truncated(steps=1),
    "rolling(4)": Rolling(steps=4),
    "rolling(16)": Rolling(steps=16),
    "rolling(64)": Rolling(steps=64),
}


class Chain(NamedTuple):
    """The place of the agent: the number of its steps, and the bit to remember."""

    time: Any
    bit: Any


def enter(key):
    """A new chain."""
    return Chain(jnp.zeros((), int), jax.random.bernoulli(key).astype(int))


def observe(chain, length):
    """What the agent sees: the time that is left, and 1 or -1 for the bit at the first step, else 0."""
    shown = jnp.where(chain.time == 0, jnp.where(chain.bit == 1, 1.0, -1.0), 0.0)
    return jnp.stack([1 - chain.time / length, shown])


def move(chain, action, length):
    """The chain after an action, its reward, and whether the episode has ended."""
    ended = chain.time == length - 1
    reward = jnp.where(ended, jnp.where(action == chain.bit, 1.0, -1.0), 0.0)
    return Chain(chain.time + 1, chain.bit), reward, ended


def score(output, action):
    """The value plus log π(action), whose gradient is multiplied by the TD error."""
    return output[2] + jax.nn.log_softmax(output[:2])[action]


def live(gradient, length, num_seeds, num_updates):
    """The mean return of the rows in each episode, float[seeds, episodes]."""
    problem = RTU(hidden=16, r_min=0.9, r_max=0.999).problem(sj.Spec(sj.Values(2), sj.Values(3)))
    trace = sj.eligibility(DISCOUNT * TRACE, rows=ROWS)
    optimizer = optax.chain(trace, optax.scale_by_adam(), optax.scale(LEARNING_RATE))
    learner = sj.Learner(problem, gradient, optimizer, rows=ROWS)
    see = jax.vmap(lambda chain: observe(chain, length))

    def act(carry, key):
        """One action in each row, and the update that follows them."""
        state, chain, starts = carry
        key_action, key_chain = jax.random.split(key)
        output = learner.output(state, see(chain), reset=starts)
        action = jax.random.categorical(key_action, output[:, :2])
        new, reward, ended = jax.vmap(lambda chain, action: move(chain, action, length))(chain, action)
        cotangents = jax.vmap(jax.grad(score))(output, action)
        grads, state = learner.gradients(state, see(chain), cotangents=cotangents, reset=starts, by_row=True)
        next_value = jnp.where(ended, 0, learner.output(state, see(new))[:, 2])
        delta = reward + DISCOUNT * next_value - output[:, 2]
        state = learner.apply(state, grads, delta=delta, reset=starts)
        fresh = jax.vmap(enter)(jax.random.split(key_chain, ROWS))
        new = jax.tree.map(lambda a, b: jnp.where(ended, a, b), fresh, new)
        return (state, new, ended), reward.mean()

    def run(key):
        key_init, key_chain, key = jax.random.split(key, 3)
        chain = jax.vmap(enter)(jax.random.split(key_chain, ROWS))
        start = learner.init(key_init), chain, jnp.ones(ROWS, bool)
        rewards = jax.lax.scan(act, start, jax.random.split(key, num_updates))[1]
        return rewards[length - 1 :: length]  # all rows end together

    keys = jax.vmap(jax.random.key)(jnp.arange(num_seeds))
    return np.asarray(jax.jit(jax.vmap(run))(keys))


def draw(path, returns, lengths):
    """The mean return of the last episodes against the length, with a point for each seed."""
    import matplotlib.pyplot as plt

    for n, name in enumerate(GRADIENTS):
        ends = [returns[name, length][:, -LAST:].mean(1) for length in lengths]
        at = np.asarray(lengths) * 1.06 ** (n - 2)  # points of different gradients do not hide each other
        (line,) = plt.semilogx(at, [np.median(end) for end in ends], label=name)
        for x, end in zip(at, ends, strict=True):
            plt.plot(np.full(len(end), x), end, ".", color=line.get_color())
    plt.xticks(lengths, map(str, lengths))
    plt.minorticks_off()
    plt.xlabel("length of the chain")
    plt.ylabel(f"mean return of the last {LAST} episodes")
    plt.legend()
    plt.savefig(path)


def main() -> None:
    """Prints the mean return of the last episodes for each gradient, length and seed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=40_000)
    parser.add_argument("--figure", help="a file to draw the returns to; needs matplotlib")
    args = parser.parse_args()
    returns = {}
    for length in args.lengths:
        for name, gradient in GRADIENTS.items():
            began = time.perf_counter()
            returns[name, length] = live(gradient, length, args.seeds, args.updates)
            ends, seconds = returns[name, length][:, -LAST:].mean(1), time.perf_counter() - began
            each = " ".join(f"{end:5.2f}" for end in ends)
            print(
                f"length {length:3}  {name:12}  median {np.median(ends):5.2f}  seeds {each}  {seconds:4.0f} s",
                flush=True,
            )
    if args.figure:
        draw(args.figure, returns, args.lengths)


if __name__ == "__main__":
    main()
