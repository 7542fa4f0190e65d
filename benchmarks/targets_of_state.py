"""Why the errors of `rflo` and `snap` in targets.py differ from the published ones: another gradient with the same M.

    python benchmarks/targets_of_state.py

The authors of sketched-rtrl use δ_t M_t, with δ_t = ∂l_t/∂h_t and M_t ≈ ∂h_t/∂θ after the step. In seqjax a loss is a
function of the state before the step, so that the gradient is ∂l_t/∂h_{t-1} M_{t-1} + ∂l_t/∂θ, whose last J is whole.
The two agree if M is exact. Here the rules are written as loops with δ_t M_t, on the series of targets.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from targets import NUM_ROWS, NUM_STEPS, RESET_EVERY, SERIES, error_of, published, samples, summary

import seqjax as sj
from seqjax.models import RNN

UNITS, LEAK = 64, 0.1


def main() -> None:
    """Prints the errors of ten seeds."""
    print("| series | strategy | error | range | published |\n" + "|---" * 5 + "|")
    for series in SERIES:
        for name, decay in (("rflo", of_leak), ("snap", of_own_weight)):
            run = compile_run(decay)
            errors = [error_of(run(jax.random.key(seed), *samples(series, seed))) for seed in range(10)]
            spread = f"{min(errors):.4f} to {max(errors):.4f}"
            print(
                f"| {series} | {name} | {np.mean(errors):.4f} ± {np.std(errors):.4f} | {spread} | "
                f"{summary(published()[series, name])[0]} |",
                flush=True,
            )


def of_leak(D_BH, W_hh):
    """RFLO: what a unit keeps of its own influence."""
    return jnp.full_like(D_BH, 1 - LEAK)


def of_own_weight(D_BH, W_hh):
    """SnAp-1: the diagonal of J."""
    return D_BH * jnp.diag(W_hh)


def compile_run(decay):
    """(key, xs, ys) -> the loss of each step."""
    problem = RNN(hidden=UNITS, initializer="uniform").problem(sj.Spec(sj.Values(1), sj.Values(1)))
    adam = optax.adam(1e-3)

    def loss(read_out, h_BH, y_B1):
        return jnp.mean((h_BH @ read_out["W_hq"] + read_out["b_q"] - y_B1) ** 2)

    @jax.jit
    def run(key, xs, ys):
        params = problem.init(key)

        def step(carry, inputs):
            params, opt_state, h_BH, M_BHP = carry
            t, x_B1, y_B1 = inputs
            h_BH, M_BHP = (jnp.where(t % RESET_EVERY == 0, 0, a) for a in (h_BH, M_BHP))
            layer = params["layer_0"]
            after_BH = jnp.tanh(x_B1 @ layer["W_xh"] + h_BH @ layer["W_hh"] + layer["b_h"])
            D_BH = 1 - after_BH**2
            fed_BP = jnp.concatenate([h_BH, x_B1, jnp.ones((NUM_ROWS, 1))], 1)
            M_BHP = decay(D_BH, layer["W_hh"])[..., None] * M_BHP + D_BH[..., None] * fed_BP[:, None]
            read_out = {name: params[name] for name in ("W_hq", "b_q")}
            value, (grads, delta_BH) = jax.value_and_grad(loss, (0, 1))(read_out, after_BH, y_B1)
            of_layer_PH = jnp.einsum("bh,bhp->ph", delta_BH, M_BHP)
            W_hh, W_xh, b_h = jnp.split(of_layer_PH, (UNITS, UNITS + 1))
            grads |= {"layer_0": {"W_hh": W_hh, "W_xh": W_xh, "b_h": b_h[0]}}
            updates, opt_state = adam.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state, after_BH, M_BHP), value

        start = (params, adam.init(params), jnp.zeros((NUM_ROWS, UNITS)), jnp.zeros((NUM_ROWS, UNITS, UNITS + 2)))
        return jax.lax.scan(step, start, (jnp.arange(NUM_STEPS), xs, ys))[1]

    return run


if __name__ == "__main__":
    main()
