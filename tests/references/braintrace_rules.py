"""Records the gradients of braintrace (JAX): D-RTRL, e-prop, SnAp-1, SnAp-2 and UORO, on its own vanilla RNN cell.

    make simulators
    build/env/simulators/bin/python tests/references/braintrace_rules.py

It runs the released braintrace that `requirements-simulators.lock` names; the recorded file names all versions. "tanh"
is its `nn.ValinaRNNCell`; "leaky" is a module of the same weights with the leak, since its cell has none.

A rule of one step (`vjp_method="single-step"`) multiplies ∂l_t/∂h_t by its trace after the step. UORO gets its signs
from a method of its own, `_draw_projection`, which its authors keep for tests. `snap-1, window` and `uoro, window`
differentiate the loss through the step, and multiply ∂l_t/∂h_{t-1} by the trace before the step, as seqjax does. D-RTRL
leaves out all of J that passes through a matrix product, so that on "tanh" the gradient of the step itself is all that
is left, and on "leaky" the leak. The same holds for its e-prop, which filters these traces with κ.
"""

import importlib.metadata

import brainstate
import braintrace
import jax
import jax.numpy as jnp
import numpy as np
from setting import LEAKS, STEPS, UNITS, Setting, running_sums, write


class Leaky(brainstate.nn.Module):
    """The leaky network, with weights like those of `braintrace.nn.ValinaRNNCell`."""

    def __init__(self, alpha):
        super().__init__()
        self.W = braintrace.nn.Linear(len(Setting().x[0]) + UNITS, UNITS)
        self.alpha = alpha

    def init_state(self, batch_size=None, **_):
        """The state of one sequence."""
        self.h = brainstate.HiddenState(jnp.zeros(UNITS))

    def update(self, x):
        """One step."""
        driven = jnp.tanh(self.W(jnp.concatenate([x, self.h.value], axis=-1)))
        self.h.value = (1 - self.alpha) * self.h.value + self.alpha * driven
        return self.h.value


class GivenSigns(braintrace.UORO):
    """UORO with the signs of the setting."""

    def _draw_projection(self, key, step, group_index, shape, dtype):
        return jnp.asarray(Setting().signs, dtype)[step].reshape(shape)


def main() -> None:
    """Runs all rules and writes braintrace_rules.json."""
    jax.config.update("jax_enable_x64", True)
    brainstate.environ.set(precision=64)
    found = {}
    for network in LEAKS:
        found |= {
            f"d-rtrl, {network}": run(network, braintrace.D_RTRL),
            f"e-prop 0.5, {network}": run(network, braintrace.EProp, kappa_filter_decay=0.5),
            f"snap-1, {network}": run(network, braintrace.SnAp, n=1),
            f"uoro, {network}": run(network, GivenSigns, vjp_method="single-step"),
        }
    found["e-prop 0, leaky"] = run("leaky", braintrace.EProp, kappa_filter_decay=0.0)
    found["snap-2, tanh"] = run("tanh", braintrace.SnAp, n=2)
    found["snap-1, window"] = run("tanh", braintrace.SnAp, n=1, vjp_method="multi-step")
    found["uoro, window"] = run("tanh", GivenSigns)
    names = ("braintrace", "brainstate", "brainunit", "brainevent", "jax", "jaxlib")
    versions = {name: importlib.metadata.version(name) for name in names}
    write("braintrace_rules", "chaobrain/braintrace", "", versions, found)


def run(network, rule, **arguments):
    """The gradients of a rule.

    Args:
        network: "tanh" or "leaky".
        rule: the class.
        arguments: of the class.
    """
    s = Setting()
    if network == "tanh":
        model = braintrace.nn.ValinaRNNCell(len(s.x[0]), UNITS, activation="tanh")
    else:
        model = Leaky(LEAKS[network])
    model.W.weight.value = {"weight": jnp.asarray(np.concatenate([s.U, s.W], 1).T), "bias": jnp.asarray(s.b)}
    xs, ys, R, c = (jnp.asarray(a) for a in (s.x, s.y, s.R, s.c))
    is_window = arguments.get("vjp_method", "multi-step" if rule is GivenSigns else "") == "multi-step"
    example = braintrace.MultiStepData(xs[:1]) if is_window else xs[0]
    learner = braintrace.compile(model, rule, example, **arguments)
    model.h.value = jnp.asarray(s.h_0)

    def loss(x, y):
        h = learner(braintrace.MultiStepData(x[None]))[0] if is_window else learner(x)
        return jnp.sum((R @ h + c - y) ** 2) / 2

    params = model.states(brainstate.ParamState)
    gradient = brainstate.transform.jit(brainstate.transform.grad(loss, params))
    gradients = []
    for t in range(STEPS):
        (of,) = gradient(xs[t], ys[t]).values()
        of_x, of_h = np.split(np.asarray(of["weight"]).T, [len(s.x[0])], axis=1)
        assert of_h.dtype == np.float64
        gradients.append(np.concatenate([of_h, of_x, np.asarray(of["bias"])[:, None]], axis=1))
    return {"network": network, "arguments": arguments, "sums": running_sums(np.array(gradients))}


if __name__ == "__main__":
    main()
