"""The first NaN of a gradient.

A puck slides until friction stops it. Its speed is finite at all steps, but the derivative of the square root at 0 is
not. `first_nonfinite` follows the gradient of the losses back, and names the step, the variable and the operation. The
figure shows where the gradient is finite.
"""

import jax.numpy as jnp

import seqjax as sj


def step(params, state, push):
    """A step of .1 s: the next state, and the loss."""
    speed = jnp.linalg.norm(state["velocity"])
    drag = params["friction"] * state["velocity"] / jnp.maximum(speed, 1e-3)
    velocity = jnp.where(push > 0, push * jnp.array([1.0, 0.5]), state["velocity"] - 0.1 * drag)
    velocity = jnp.where(jnp.abs(velocity) < 0.05, 0.0, velocity)
    place = state["place"] + 0.1 * velocity
    return {"place": place, "velocity": velocity}, jnp.sum((place - 1.0) ** 2)


state = {"place": jnp.zeros(2), "velocity": jnp.zeros(2)}
pushes = jnp.zeros(40).at[jnp.array([0, 20])].set(1.0)
report = sj.first_nonfinite(step, {"friction": jnp.float32(1.0)}, state, pushes)
print(report)
report.plot(of="gradient", figsize=(3.25, 2.3)).savefig("first_nan.png")
