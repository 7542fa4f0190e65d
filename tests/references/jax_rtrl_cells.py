"""Records the gradients of jax_rtrl (JAX): RTRL, RFLO, and what it calls e-prop, on its own cell.

    git clone https://github.com/FranzKnut/jax_rtrl FOLDER
    git -C FOLDER checkout 7d95ca607d021ef8f35bdc281a06c06222442860
    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install FOLDER ml_collections
    ENVIRONMENT/bin/python tests/references/jax_rtrl_cells.py FOLDER

It demands jax 0.6.2, so it needs an environment of its own, and it imports ml_collections without asking for it. Its
`OnlineCTRNNCell` of type "murray" with dt = 1 and tau = 1 / alpha is the network "leaky", or "tanh" with tau = 1. What
it calls e-prop multiplies its trace by the diagonal of J: it is SnAp-1. Its SnAp-0 is left out: with this cell, the
gradient that it returns has one axis too many, and JAX refuses it.
"""

import argparse
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
from jax_rtrl.models.cells.ctrnn import OnlineCTRNNCell
from setting import INPUTS, LEAKS, STEPS, UNITS, Setting, commit_of, running_sums, write


def main() -> None:
    """Runs all rules and writes jax_rtrl_cells.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the repository is checked out, for its commit")
    folder = parser.parse_args().folder
    jax.config.update("jax_enable_x64", True)
    found = {
        f"{plasticity}, {network}": run(network, plasticity)
        for network, plasticity in [("tanh", "rtrl"), ("leaky", "rtrl"), ("leaky", "rflo"), ("leaky", "eprop")]
    }
    versions = {name: importlib.metadata.version(name) for name in ("jax_rtrl", "jax", "jaxlib", "flax")}
    write("jax_rtrl_cells", "FranzKnut/jax_rtrl", commit_of(folder), versions, found)


def run(network, plasticity):
    """The gradients of a rule."""
    s = Setting()
    cell = OnlineCTRNNCell(num_units=UNITS, ode_type="murray", plasticity=plasticity)
    W = jnp.asarray(np.concatenate([s.U, s.W, s.b[:, None]], axis=1))
    params = {"params": {"W": W, "tau": jnp.full(UNITS, 1 / LEAKS[network])}}
    _, *traces = cell.apply(params, jax.random.key(0), (INPUTS,), method="initialize_carry")
    carry = (jnp.asarray(s.h_0), *traces)

    @jax.jit
    def gradient(params, carry, x, y):
        def loss(params):
            new, h = cell.apply(params, carry, x)
            return jnp.sum((s.R @ h + s.c - y) ** 2) / 2, new

        return jax.grad(loss, has_aux=True)(params)

    gradients = []
    for t in range(STEPS):
        grads, carry = gradient(params, carry, s.x[t], s.y[t])
        of_x, of_h, of_b = np.split(np.asarray(grads["params"]["W"]), [INPUTS, INPUTS + UNITS], axis=1)
        gradients.append(np.concatenate([of_h, of_x, of_b], axis=1))
    return {"network": network, "sums": running_sums(np.array(gradients))}


if __name__ == "__main__":
    main()
