"""What it costs to truncate the gradient of a river.

The model of a river has two stores of water. Rain fills the soil, which drains into the river and into the groundwater,
and the groundwater drains slowly. `lags` splits the gradient of the error by the number of days that it travels back:
above, the norm of each part, with a fit of its decay; below, the relative error if only the last days are kept.
"""

import jax
import jax.numpy as jnp

import seqjax as sj


def step(rates, stores, x):
    """A day: the next stores, and the loss."""
    soil, ground = stores
    out = rates * jnp.stack([soil, soil, ground])  # soil to river, soil to groundwater, groundwater to river
    stores = jnp.stack([soil + x["rain"] - out[0] - out[1], ground + out[1] - out[2]])
    return stores, (out[0] + out[2] - x["flow"]) ** 2


rain = jax.random.exponential(jax.random.key(0), (730,)) * jax.random.bernoulli(jax.random.key(1), 0.3, (730,))
xs = {"rain": rain, "flow": jnp.full(730, 0.3)}
report = sj.lags(step, jnp.array([0.2, 0.1, 0.02]), jnp.ones(2), xs, max_lag=365)
print(f"an error below 1 % takes {report.steps(bias=0.01)} days")
report.plot(figsize=(3.25, 3.3)).savefig("lags.png")
