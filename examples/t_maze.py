"""An agent learns online to remember which way to turn (the T-maze of Bakker 2002).

    python examples/t_maze.py

At the start of a corridor the agent sees a sign for one step. At the end it has to turn to the side that the sign
named. Actor and critic read a recurrent trace unit (RTU), and the parameters change after every step: with the exact
gradient through the whole episode (`rtrl`), or with that of one step (`truncated`). Environment, agent and learner are
one compiled scan.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax.gradients import RTRL, Truncated
from seqjax.models import RTU

CORRIDOR, FORWARD, LEFT, RIGHT = 10, 0, 1, 2
DISCOUNT, ENTROPY, UPDATES = 0.95, 0.02, 60_000


class Maze(NamedTuple):
    """The place of the agent: how far it went, where the reward is, and how many steps it took."""

    position: Any
    side: Any
    steps: Any


def enter(key):
    """A new maze."""
    return Maze(jnp.zeros((), int), jax.random.randint(key, (), LEFT, RIGHT + 1), jnp.zeros((), int))


def observe(maze):
    """What the agent sees: the sign at the start, the corridor, the junction."""
    at_start, at_end = maze.position == 0, maze.position == CORRIDOR
    sees = [at_start & (maze.side == LEFT), at_start & (maze.side == RIGHT), ~at_start & ~at_end, at_end]
    return jnp.array(sees, float)


def move(maze, action):
    """The maze after an action, its reward, and whether the episode has ended."""
    at_end = maze.position == CORRIDOR
    turns = at_end & (action != FORWARD)
    forward = ~at_end & (action == FORWARD)
    reward = jnp.where(turns, jnp.where(action == maze.side, 1.0, -1.0), jnp.where(forward, 0.0, -0.1))
    steps = maze.steps + 1
    return Maze(maze.position + forward, maze.side, steps), reward, turns | (steps >= 5 * CORRIDOR)


def score(output, action):
    """The value and log π(action), whose gradient δ multiplies, and the entropy of the policy π."""
    logits, value = jax.nn.log_softmax(output[:3]), output[3]
    return jnp.stack([value + logits[action], -jnp.exp(logits) @ logits])


def live(gradient, seed):
    """The rewards of all turns at the junction, and the updates at which they came."""
    problem = RTU(hidden=16, r_max=0.9).problem(sj.Spec(sj.Values(4), sj.Values(4)))
    learner = sj.Learner(problem, gradient, optax.adam(2e-3))

    def act(carry, key):
        """One action, and the update that follows it."""
        state, maze, starts = carry
        key_action, key_maze = jax.random.split(key)
        output = learner.output(state, observe(maze), reset=starts)
        action = jax.random.categorical(key_action, output[:3])
        new, reward, ended = move(maze, action)
        cotangents = jax.jacobian(score)(output, action)
        grads, state = learner.gradients(state, observe(maze), cotangents=cotangents, reset=starts)
        next_value = jnp.where(ended, 0, learner.output(state, observe(new))[3])
        delta = reward + DISCOUNT * next_value - output[3]
        state = learner.apply(state, jax.tree.map(lambda g: -delta * g[0] - ENTROPY * g[1], grads))
        new = jax.tree.map(lambda a, b: jnp.where(ended, a, b), enter(key_maze), new)
        return (state, new, ended), (reward, jnp.abs(reward) == 1)

    @jax.jit
    def run(key):
        key_init, key_maze, key = jax.random.split(key, 3)
        start = learner.init(key_init), enter(key_maze), jnp.array(True)
        return jax.lax.scan(act, start, jax.random.split(key, UPDATES))[1]

    rewards, turns = map(np.asarray, run(jax.random.key(seed)))
    return rewards[turns], np.flatnonzero(turns)


def main() -> None:
    """Prints how often the agent turned to the correct side, in its first and in its last 200 turns."""
    for name, gradient in {"rtrl": RTRL(), "truncated(1)": Truncated(steps=1)}.items():
        for seed in range(3):
            rewards, _ = live(gradient, seed)
            first, last = (np.mean(part > 0) for part in (rewards[:200], rewards[-200:]))
            shares = f"{first:.0%} of the first 200, {last:.0%} of the last"
            print(f"{name:13} seed {seed}  {len(rewards):5} turns  correct: {shares}")


if __name__ == "__main__":
    main()
