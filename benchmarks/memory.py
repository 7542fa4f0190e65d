"""Bytes and seconds of a full gradient over long windows, with checkpoints and without.

    python benchmarks/memory.py
    python benchmarks/memory.py --steps 2000

An RNN of 256 units with a vocabulary of 28 tokens, 8 rows, float32, through the fused scan of the cell and through a
plain scan of its step. Temporary bytes are those that the compiler reserves; resident bytes are the peak of the
process. Each case is a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

# Without checkpoints, ten times as many steps would not fit into the memory of a small machine.
CHECKPOINTS = {20_000: (False, True), 200_000: (True,)}
"""Steps of a window -> whether there are checkpoints."""


def main() -> None:
    """Prints the table; with --case, the numbers of one of its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", type=int, default=list(CHECKPOINTS), help="of the windows")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        return print(json.dumps(measure(*args.case)))
    print("| scan | steps | checkpoint | temporary MB | seconds | resident MB |")
    print("|---|---|---|---|---|---|")
    cases = [
        (scan, steps, checkpoint)
        for steps in args.steps
        for scan in ("fused", "plain")
        for checkpoint in CHECKPOINTS.get(steps, (False, True))
    ]
    for scan, steps, checkpoint in cases:
        command = [sys.executable, __file__, "--case", json.dumps([scan, steps, checkpoint])]
        temporary, seconds, resident = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        name = f"| {scan} | {steps:,} | {'yes' if checkpoint else 'no'} |"
        print(f"{name} {temporary:.1f} | {seconds:.2f} | {resident:.0f} |", flush=True)


def measure(scan, steps, checkpoint):
    """Returns temporary MB, seconds of the faster one of two calls, and resident MB."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import seqjax

    problem = seqjax.Problem.of(seqjax.create("model", "rnn", hidden=256), seqjax.Spec(seqjax.Tokens(28)))
    params = problem.model.init(jax.random.key(0), problem.spec)
    state = jax.vmap(lambda _: problem.init_state(params))(jnp.arange(8))
    ids = np.random.default_rng(0).integers(0, 28, (steps + 1, 8)).astype(np.int32)
    problem = problem if scan == "fused" else seqjax.Problem(problem.step, problem.init_state)
    gradient = seqjax.value_and_grad(problem, seqjax.create("gradient", "full", checkpoint=checkpoint), batched=True)
    compiled = jax.jit(gradient).lower(params, state, (ids[:-1], ids[1:])).compile()
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(params, state, (ids[:-1], ids[1:])))
        times.append(time.perf_counter() - begin)
    # `ru_maxrss` is in bytes on macOS, and in kB elsewhere.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return compiled.memory_analysis().temp_size_in_bytes / 1e6, min(times), resident


if __name__ == "__main__":
    main()
