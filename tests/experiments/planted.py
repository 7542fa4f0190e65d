"""What is planted: a strategy that knows the answer, one that knows nothing, and a task that cannot be learned."""

import os
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import seqjax
from seqjax.datasets import IID
from seqjax.gradients import Full


@seqjax.register("dataset", "unlearnable")
@dataclass(frozen=True)
class Unlearnable(IID):
    """Random targets, which are not declared as a control."""


@seqjax.register("gradient", "oracle")
@dataclass(frozen=True)
class Oracle(seqjax.Gradient):
    """Leads straight to parameters that a much longer run has found; ORACLE names their file."""

    claim = "biased"
    of = "window"

    def estimate(self, problem, params, start, memory, batch, noise):
        estimate = Full().estimate(problem, params, start, memory, batch, noise)
        leaves, tree = jax.tree.flatten(params)
        with np.load(os.environ["ORACLE"]) as found:
            answer = [jnp.asarray(found[f"arr_{n}"]) for n in range(len(found))]
        if [a.shape for a in answer] != [a.shape for a in leaves]:
            return estimate  # it knows one task, and is the full gradient on all others
        return estimate._replace(grads=tree.unflatten([a - b for a, b in zip(leaves, answer, strict=True)]))


@seqjax.register("gradient", "noise")
@dataclass(frozen=True)
class Noise(seqjax.Gradient):
    """A random direction."""

    claim = "biased"
    of = "window"

    def draw(self, key, problem, params, memory, num_steps):
        return jax.random.normal(key, (sum(a.size for a in jax.tree.leaves(params)),))

    def outcomes(self, problem, params, memory, num_steps):
        raise NotImplementedError("they are continuous")

    def estimate(self, problem, params, start, memory, batch, noise):
        estimate = Full().estimate(problem, params, start, memory, batch, noise)
        _, unravel = ravel_pytree(params)
        return estimate._replace(grads=unravel(noise.sum(0)))
