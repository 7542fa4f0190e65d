"""The time of a step of online strategies in seqjax and in public code.

    make simulators
    build/env/simulators/bin/python benchmarks/references.py --vanilla-rtrl FOLDER
    python benchmarks/references.py --sketched-rtrl FOLDER --torch-threads 1

A tanh network of 64 units with 32 inputs and a read-out of 2 values with squared error, float32, windows of 256 steps:
microseconds per step, medians over turns in which all contenders of a process take turns. Those that are not installed
are left out. braintrace needs the environment of `make simulators`, and sketched-rtrl one with seqjax and torch, whose
threads wait for each other where the machine has other work. vanilla-rtrl needs numpy and scipy, computes in float64,
and has no rows. The two folders are work trees, see tests/references. seqjax and braintrace run a window in one
compiled call; the others run each step from Python, and are timed for fewer steps.

The network has dense recurrent weights, so that `rtrl`, `SnAp(2)` of braintrace and `ExactRTRL` return the exact
gradient: that of braintrace is compared with `full` first. In such a network D-RTRL keeps the gradient of the step
itself alone.
"""

import argparse
import importlib.metadata
import importlib.util
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from machine import cores, cpu

import seqjax
from seqjax.gradients import RFLO, RTRL, UORO, Batch, Full, SnAp, init_memory
from seqjax.models import RNN

UNITS, INPUTS, OUTPUTS, STEPS = 64, 32, 2, 256
FEW_STEPS = 16
"""The steps of a call of what runs each step from Python: its time per step does not depend on their number."""
STRATEGIES = {"full": Full(), "rflo": RFLO(), "snap(n=1)": SnAp(n=1), "uoro": UORO(), "rtrl": RTRL()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="the beginnings of the names of the contenders that are measured")
    parser.add_argument("--sketched-rtrl", metavar="FOLDER")
    parser.add_argument("--vanilla-rtrl", metavar="FOLDER")
    parser.add_argument("--torch-threads", type=int, help="by default, PyTorch decides")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    packages = ("jax", "jaxlib", "numpy", "braintrace", "brainstate", "torch")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages if importlib.util.find_spec(name)]
    print(f"{cpu()} · {cores()} cores · Python {sys.version.split()[0]} · {' · '.join(versions)}\n")
    columns = {}
    for num_rows in (1, 8):
        calls = seqjax_calls(num_rows)
        if importlib.util.find_spec("braintrace"):
            calls |= braintrace_calls(num_rows)
        if args.sketched_rtrl:
            calls |= sketched_calls(args.sketched_rtrl, num_rows, args.torch_threads)
        if args.vanilla_rtrl and num_rows == 1:
            calls |= vanilla_calls(args.vanilla_rtrl)
        if args.only:
            calls = {name: call for name, call in calls.items() if name.startswith(tuple(args.only))}
        times = {name: [] for name in calls}
        for call in calls.values():
            call()
        for _ in range(args.turns):
            for name, call in calls.items():
                num_steps = STEPS if name.startswith(("seqjax", "braintrace")) else FEW_STEPS
                times[name].append(1e6 * seconds(call) / num_steps)
        columns[num_rows] = {name: statistics.median(each) for name, each in times.items()}
    print("| µs per step | one sequence | 8 rows |\n|---|---|---|")
    for name, of_one in columns[1].items():
        of_8 = f"{columns[8][name]:,.1f}" if name in columns[8] else "–"
        print(f"| {name} | {of_one:,.1f} | {of_8} |")


def data(num_rows):
    """The parameters of seqjax, and inputs and targets [T, B, ...], as numpy arrays in float32."""
    random = np.random.default_rng(0)

    def draw(*shape, scale=1.0):
        return (scale * random.normal(size=shape)).astype(np.float32)

    layer = {
        "W_xh": draw(INPUTS, UNITS, scale=INPUTS**-0.5),
        "W_hh": draw(UNITS, UNITS, scale=UNITS**-0.5),
        "b_h": draw(UNITS, scale=0.1),
    }
    params = {"layer_0": layer, "W_hq": draw(UNITS, OUTPUTS, scale=UNITS**-0.5), "b_q": np.zeros(OUTPUTS, np.float32)}
    return params, draw(STEPS, num_rows, INPUTS), draw(STEPS, num_rows, OUTPUTS)


def squared_error(output, target):
    """The loss of a step; of all rows, its sum."""
    return jnp.sum((output - target) ** 2) / 2


def seqjax_calls(num_rows):
    """Name -> a call of a window."""
    params, xs, ys = jax.tree.map(jnp.asarray, data(num_rows))
    problem = RNN(hidden=UNITS).problem(seqjax.Spec(seqjax.Values(INPUTS), seqjax.Values(OUTPUTS)), loss=squared_error)
    state = problem.init_rows(params, num_rows)
    batch = Batch((xs, ys), jnp.ones((STEPS, num_rows)), None, jnp.arange(num_rows, dtype=jnp.int32))
    calls = {}
    for name, strategy in STRATEGIES.items():
        memory = init_memory(strategy, problem, params, state, num_rows)
        key = jax.random.key(0) if strategy.draws else None

        @jax.jit
        def window(params, state, memory, batch, strategy=strategy, key=key):
            return strategy(problem, params, state, memory, batch, key)[:4]

        calls[f"seqjax {name}"] = lambda window=window, memory=memory: jax.block_until_ready(
            window(params, state, memory, batch)
        )
    return calls


def braintrace_calls(num_rows):
    """The same of braintrace, with its own driver of a sequence."""
    import brainstate
    import braintrace

    params, xs, ys = data(num_rows)
    shape = () if num_rows == 1 else (num_rows,)
    xs, ys = jnp.asarray(xs.reshape(STEPS, *shape, INPUTS)), jnp.asarray(ys.reshape(STEPS, *shape, OUTPUTS))

    class Net(brainstate.nn.Module):
        """Its vanilla RNN cell with a read-out."""

        def __init__(self):
            super().__init__()
            self.cell = braintrace.nn.ValinaRNNCell(INPUTS, UNITS, activation="tanh")
            layer = params["layer_0"]
            weight = np.concatenate([layer["W_xh"], layer["W_hh"]])
            self.cell.W.weight.value = {"weight": jnp.asarray(weight), "bias": jnp.asarray(layer["b_h"])}
            self.read = brainstate.ParamState({"W": jnp.asarray(params["W_hq"]), "b": jnp.asarray(params["b_q"])})

        def update(self, x):
            return self.cell(x) @ self.read.value["W"] + self.read.value["b"]

    calls = {}
    for name, rule, arguments in [
        ("D_RTRL", braintrace.D_RTRL, {}),
        # Without `vmap`, SnAp takes the units of all rows for one state.
        ("SnAp(1)", braintrace.SnAp, {"n": 1, "vmap": num_rows > 1}),
        ("SnAp(2)", braintrace.SnAp, {"n": 2, "vmap": num_rows > 1}),
    ]:
        learner = braintrace.compile(Net(), rule, xs[0], batch_size=num_rows if shape else None, **arguments)

        # The state goes on from call to call. The time does not depend on it, and the first call starts from zero.
        @brainstate.transform.jit
        def window(xs, ys, learner=learner):
            return learner.etrace_grad(xs, ys, step_fn=lambda x, y: squared_error(learner(x), y), reduction="sum")

        calls[f"braintrace {name}"] = lambda window=window: jax.block_until_ready(window(xs, ys))
    found = calls["braintrace SnAp(2)"]()
    wanted = seqjax_calls(num_rows)["seqjax full"]()[1]
    of_h = next(each["weight"][INPUTS:] for each in found.values() if "weight" in each)
    error = jnp.linalg.norm(of_h - wanted["layer_0"]["W_hh"]) / jnp.linalg.norm(wanted["layer_0"]["W_hh"])
    assert error < 1e-3, f"SnAp(2) of braintrace is not the exact gradient: {error}"
    return calls


def sketched_calls(folder, num_rows, threads):
    """The same of sketched-rtrl, with the derivative of the loss by the state written out."""
    sys.path.insert(0, folder)
    import torch
    from skrtrl.algos import SKRTRL, ExactRTRL, SnAp1
    from skrtrl.baselines import RFLO, UORO
    from skrtrl.cells import TanhRNNCell

    if threads:
        torch.set_num_threads(threads)
    params, xs, ys = data(num_rows)
    cell = TanhRNNCell(INPUTS, UNITS)
    layer = params["layer_0"]
    for name, value in (("W", layer["W_hh"].T), ("U", layer["W_xh"].T), ("b", layer["b_h"])):
        getattr(cell, name).data = torch.tensor(np.ascontiguousarray(value))
    R, xs, ys = torch.tensor(params["W_hq"]), torch.tensor(xs[:FEW_STEPS]), torch.tensor(ys[:FEW_STEPS])

    @torch.no_grad()
    def window(rule, arguments):
        algorithm, h, grads = rule(cell, num_rows, **arguments), torch.zeros(num_rows, UNITS), 0
        for x, y in zip(xs, ys, strict=True):
            new = cell(x, h)
            algorithm.step_state(*cell.jac_pieces(x, h, new))
            h = new
            grads = grads + algorithm.grad_rows((h @ R - y) @ R.T)
        return grads

    rules = {"RFLO": (RFLO, {}), "SnAp1": (SnAp1, {}), "UORO": (UORO, {}), "ExactRTRL": (ExactRTRL, {})}
    rules["SKRTRL(r=4)"] = SKRTRL, {"r": 4}
    return {f"sketched-rtrl {name}": lambda rule=rule: window(*rule) for name, rule in rules.items()}


def vanilla_calls(folder):
    """The same of vanilla-rtrl, without its `Simulation`."""
    sys.path.insert(0, folder)
    import core
    import learning_algorithms as rules
    from functions import identity, mean_squared_error, tanh

    params, xs, ys = data(1)
    layer = params["layer_0"]
    xs, ys = xs[:FEW_STEPS, 0].astype(float), ys[:FEW_STEPS, 0].astype(float)
    weights = [layer["W_xh"].T, layer["W_hh"].T, params["W_hq"].T, layer["b_h"], params["b_q"]]

    def window(rule, arguments):
        network = core.RNN(*[a.astype(float) for a in weights], tanh, 1.0, identity, mean_squared_error)
        network.reset_network(h=np.zeros(UNITS))
        learner, total = rule(network, **arguments), 0
        for x, y in zip(xs, ys, strict=True):
            network.next_state(x)
            network.z_out()
            network.error = network.loss.f_prime(network.z, y)
            learner.update_learning_vars()
            learner()
            total = total + learner.rec_grads
        return total

    named = {"RFLO": (rules.RFLO, {"alpha": 1.0}), "KF_RTRL": (rules.KF_RTRL, {}), "UORO": (rules.UORO, {})}
    named["RTRL"] = rules.RTRL, {}
    return {f"vanilla-rtrl {name}": lambda rule=rule: window(*rule) for name, rule in named.items()}


def seconds(call):
    """The seconds of one call: the mean over as many calls as fit into .2 seconds."""
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < 0.2:
        call()
        count += 1
    return (time.perf_counter() - begin) / count


if __name__ == "__main__":
    main()
