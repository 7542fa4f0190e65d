"""The speed of training with seqjax, PyTorch and Flax, in tokens per second.

    make bench

A character model with a vocabulary of 28 tokens on 10,000 random tokens, 32 rows of 35 steps, the state carried from
window to window, SGD with learning rate 1 and the global norm clipped at 1, float32: the same work for all. Each
contender is a process of its own, and is idle while another one is timed. They take turns; the table shows medians over
the turns, and in brackets the seconds of the first epoch with compiling. The share of the bound is that of the first
contender: its operations per second in products, by those of one large product. PyTorch is installed once, into the
environment build/torch; the variables of uv (UV_PYTHON, UV_FIND_LINKS, UV_INDEX) say from where.
"""

import argparse
import functools
import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import cores, cpu

VOCABULARY, ROWS, STEPS, TOKENS = 28, 32, 35, 10_000
WINDOWS = (TOKENS - 1) // (ROWS * STEPS)
TORCH = Path(__file__).parents[1] / "build" / "torch"


def main() -> None:
    """Prints the table; with --serve, is one contender, which answers requests `[cell, hidden, seconds]` on stdin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["rnn", "gru", "lstm"])
    parser.add_argument("--hidden", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="the length of a turn")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=["seqjax", "torch", "flax"])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--serve", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve)
    contenders = {name: start(name) for name in args.contenders}
    versions = [ask(process, "") for process in contenders.values()]
    peak = gemm_peak()
    rows = []
    print(f"{cpu()} · {cores()} cores · Python {platform.python_version()} · {' · '.join(versions)}")
    print(f"largest product: {peak / 1e9:.0f} GFLOP/s\n")
    print("| tokens/s (first epoch) |" + "".join(f" {name} |" for name in contenders) + " share of the bound |")
    print("|---|" + "---|" * len(contenders) + "---|")
    for cell in args.cells:
        for hidden in args.hidden:
            turns = [
                {name: ask(process, [cell, hidden, args.seconds]) for name, process in contenders.items()}
                for _ in range(args.turns)
            ]
            able = [name for name in contenders if turns[0][name]]
            rates = {name: statistics.median(turn[name][0] for turn in turns) for name in able}
            cells = [f"{rates[name]:,.0f} ({turns[0][name][1]:.1f} s)" if name in able else "–" for name in contenders]
            first = rates.get(args.contenders[0])
            share = first and (needed := operations(cell, hidden)) and first * needed / peak
            cells.append(f"{share:.0%}" if share else "–")
            print(f"| {cell}, {hidden} units | {' | '.join(cells)} |", flush=True)
            rows.append({"cell": cell, "hidden": hidden, "tokens_per_second": rates, "share_of_bound": share})
    if args.json:
        found = {"cpu": cpu(), "cores": cores(), "versions": versions, "gemm_flops": peak, "training": rows}
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    for process in contenders.values():
        process.stdin.close()
        process.wait()


def serve(name):
    """Answers each line of stdin: with the versions, or with tokens per second and seconds of the first epoch.

    The answer is null if the library cannot train such a cell; stderr has the reason.
    """
    make, made, compiled = CONTENDERS[name], {}, 0.0
    for line in sys.stdin:
        if not (request := json.loads(line)):
            answer = make(None, None)
        else:
            cell, hidden, seconds = request
            try:
                if (cell, hidden) not in made:
                    begin = time.perf_counter()
                    made.clear()
                    made[cell, hidden] = make(cell, hidden)
                    made[cell, hidden]()
                    compiled = time.perf_counter() - begin
                answer = speed(made[cell, hidden], seconds), compiled
            # A library may not have the cell; PyTorch has no LSTM in bfloat16 on some processors.
            except RuntimeError as fault:
                print(f"{name} cannot train {cell} {hidden}: {fault}", file=sys.stderr)
                made.clear()
                answer = None
        print(json.dumps(answer), flush=True)


def speed(epoch, seconds):
    """Tokens per second of whole epochs that take at least so many seconds."""
    begin, epochs = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        epoch()
        epochs += 1
    return epochs * WINDOWS * ROWS * STEPS / (time.perf_counter() - begin)


def operations(cell, hidden):
    """The floating-point operations of a token, forwards and backwards: 6 for each weight that is multiplied.

    None for models without a recurrent matrix, in which products take little of the time.
    """
    blocks = {"rnn": 1, "gru": 3, "lstm": 4}.get(cell)
    return blocks and 6 * hidden * (blocks * hidden + VOCABULARY)


def gemm_peak():
    """The operations per second of the largest product of a window, [1120, 512] [512, 2048], on all cores."""
    code = """
import time
import jax, jax.numpy as jnp
a, b = jnp.ones((1120, 512)), jnp.ones((512, 2048))
product = jax.jit(lambda a, b: a @ b)
product(a, b).block_until_ready()
best = 1.0
for _ in range(30):
    began = time.perf_counter()
    product(a, b).block_until_ready()
    best = min(best, time.perf_counter() - began)
print(2 * 1120 * 512 * 2048 / best)
"""
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def seqjax_contender(cell, hidden, precision="float32", **fields):
    """One call is one epoch of `seqjax.train`, on one device for each core; the fields are those of the model."""
    import jax

    jax.config.update("jax_num_cpu_devices", cores())
    import seqjax

    if cell is None:
        return f"seqjax {seqjax.__version__} on jax {jax.__version__}, {len(jax.devices())} devices, {precision}"
    # Authors compute minGRU in logarithms, which needs positive numbers.
    fields |= {"positive": True} if cell in ("min-gru", "min-lstm") else {}
    epochs = seqjax_epochs(cell, hidden, fields, precision=precision)
    return lambda: next(epochs)


def parallel_contender(cell, hidden):
    """`seqjax_contender` of a model whose recurrence runs in parallel over time."""
    if cell in ("rnn", "gru", "lstm", "ind-rnn"):
        raise RuntimeError("its recurrence is not linear")
    return seqjax_contender(cell, hidden, parallel=True)


def seqjax_epochs(cell, hidden, fields=None, **how):
    """The epochs of `seqjax.train`, with fields of the model, and further arguments of it."""
    import numpy as np

    import seqjax
    from seqjax.data import Stream

    ids = random_ids(np)
    return seqjax.train(
        seqjax.Problem.of(
            seqjax.create("model", cell, hidden=hidden, **(fields or {})), seqjax.Spec(seqjax.Tokens(VOCABULARY))
        ),
        Stream(ids[:-1], ids[1:], np.array([0, TOKENS - 1])),
        sampler=seqjax.create("sampler", "sequential", batch_size=ROWS, num_steps=STEPS),
        gradient=seqjax.create("gradient", "full"),
        optimizer=seqjax.create("optimizer", "sgd", learning_rate=1.0, clip_norm=1.0),
        epochs=1_000_000,
        **how,
    )


def torch_contender(cell, hidden, precision="float32", compiled=False):
    """One call is one epoch of a PyTorch loop; inputs are one-hot vectors. With bfloat16 it is under `autocast`."""
    import numpy as np
    import torch
    import torch_models

    torch.set_num_threads(cores())
    if cell is None:
        return f"torch {torch.__version__}, {torch.get_num_threads()} threads, {precision}"
    torch.manual_seed(0)
    in_precision = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    classes = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
    classes |= {"min-gru": torch_models.MinGRU, "lru": torch_models.LRU}
    if cell not in classes:
        raise RuntimeError("torch_models.py does not have it")
    rnn = classes[cell](VOCABULARY, hidden)
    readout = torch.nn.Linear(getattr(rnn, "output", hidden), VOCABULARY)
    params = [*rnn.parameters(), *readout.parameters()]
    optimizer = torch.optim.SGD(params, lr=1.0)
    inputs, targets = (torch.from_numpy(a).long() for a in windows(np))
    one_hot = torch.nn.functional.one_hot(inputs, VOCABULARY).float()

    def loss_of(x, y, state):
        hs, state = rnn(x, state)
        return torch.nn.functional.cross_entropy(readout(hs).flatten(0, 1), y.flatten()), state

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def epoch():
        state = None
        for x, y in zip(one_hot, targets, strict=True):
            if state is not None:
                state = tuple(s.detach() for s in state) if cell == "lstm" else state.detach()
            with in_precision:
                loss, state = loss_of(x, y, state)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
        return loss.item()

    return epoch


def flax_contender(cell, hidden):
    """One call is one epoch of jitted steps over a Flax NNX network; inputs are one-hot vectors."""
    import flax
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from flax import nnx

    if cell is None:
        return f"flax {flax.__version__} on jax {jax.__version__}, {cores()} threads"
    classes = {"rnn": nnx.SimpleCell, "gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}
    if cell not in classes:
        raise RuntimeError("Flax does not have it")
    rngs = nnx.Rngs(0)
    network = nnx.RNN(classes[cell](VOCABULARY, hidden, rngs=rngs), time_major=True, return_carry=True)
    readout = nnx.Linear(hidden, VOCABULARY, rngs=rngs)
    graph, params, *rest = nnx.split((network, readout), nnx.Param, ...)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))

    @jax.jit
    def update(params, opt_state, carry, x, y):
        def loss(params):
            network, readout = nnx.merge(graph, params, *rest, copy=True)
            new, hs = network(jax.nn.one_hot(x, VOCABULARY), initial_carry=carry)
            return optax.softmax_cross_entropy_with_integer_labels(readout(hs), y).mean(), new

        (value, carry), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, carry, value

    inputs, targets = (jnp.asarray(a) for a in windows(np))
    batches = list(zip(inputs, targets, strict=True))
    training = [params, tx.init(params)]

    def epoch():
        zero = jnp.zeros((ROWS, hidden))
        carry = (zero, zero) if cell == "lstm" else zero
        for x, y in batches:
            *training[:], carry, loss = update(*training, carry, x, y)
        return float(loss)

    return epoch


CONTENDERS = {
    "seqjax": seqjax_contender,
    "torch": torch_contender,
    "flax": flax_contender,
    "seqjax-bfloat16": functools.partial(seqjax_contender, precision="bfloat16"),
    "torch-bfloat16": functools.partial(torch_contender, precision="bfloat16"),
    "seqjax-parallel": parallel_contender,
    "torch-compiled": functools.partial(torch_contender, compiled=True),
}
"""The first three take part if none are named."""


def random_ids(np):
    """Random ids, int32[TOKENS]."""
    return np.random.default_rng(0).integers(0, VOCABULARY, TOKENS).astype(np.int32)


def windows(np):
    """Inputs and targets, int32[WINDOWS, STEPS, ROWS]; row i of a window continues in row i of the next one."""
    ids, size = random_ids(np), WINDOWS * ROWS * STEPS
    sides = (ids[:size], ids[1 : size + 1])
    return [a.reshape(ROWS, WINDOWS, STEPS).transpose(1, 2, 0).copy() for a in sides]


def start(name):
    """Starts the process of a contender."""
    python = torch_python() if name.startswith("torch") else sys.executable
    return subprocess.Popen(
        [python, __file__, "--serve", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ask(process, request):
    """Sends a request, and returns the answer."""
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def torch_python():
    """The Python of the environment with PyTorch, which is made if it is missing."""
    python = TORCH / "bin" / "python"
    if not python.exists():
        own = Path(__file__).parents[1] / ".tools" / "bin" / "uv"
        uv = str(own) if own.exists() else shutil.which("uv")
        if uv is None:
            sys.exit("uv is missing: python3 -m pip install uv, or leave PyTorch out: --contenders seqjax flax")
        subprocess.run([uv, "venv", "--quiet", TORCH], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "torch", "numpy"], check=True)
    return str(python)


if __name__ == "__main__":
    main()
