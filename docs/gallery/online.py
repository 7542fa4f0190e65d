"""An LRU learns online.

A stream of random numbers is read one sample at a time, with an update after each. The task is to name the number that
was read ten steps ago. `RTRL` carries the exact influence of the parameters from step to step, and `SnAp` a part of it.
"""

import jax
import numpy as np
import optax

import seqjax as sj
from seqjax.gradients import RTRL, SnAp, Truncated
from seqjax.models import LRU

numbers = np.random.default_rng(0).normal(size=(20_010, 1)).astype(np.float32)
problem = LRU(hidden=16).problem(sj.Spec(sj.Values(1)))
curves = {}
for name, gradient in {"one step": Truncated(steps=1), "snap": SnAp(), "rtrl": RTRL()}.items():
    learner = sj.Learner(problem, gradient, optax.adam(2e-3))
    run = jax.jit(lambda state, xs, learner=learner: jax.lax.scan(lambda s, x: learner.update(s, *x), state, xs))
    _, metrics = run(learner.init(jax.random.key(0)), (numbers[10:], numbers[:-10]))
    losses = np.asarray(metrics["loss"]).reshape(-1, 250).mean(1)
    curves[name] = (250 * np.arange(1, len(losses) + 1), losses)
figure = sj.plot.lines(curves, x_label="update", y_label="loss", y_scale="log", figsize=(3.25, 2.3))
figure.savefig("online.png")
