"""Memory and seconds of a full gradient over long windows, with checkpoints and without.

    .venv/bin/python benchmarks/memory.py

An RNN of 256 units on 28 symbols, 8 rows, float32, through the fused recurrence and through a plain scan of its step.
Temporary memory is what the compiler reserves; resident memory is the most that the process had, a process each.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

CASES = [
    (scan, steps, checkpoint)
    for steps, checkpoints in ((20_000, (False, True)), (200_000, (True,)))
    for scan in ("fused", "plain")
    for checkpoint in checkpoints
]


def main() -> None:
    """The table; or, with --case, one of its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        return print(json.dumps(measure(*args.case)))
    print("| scan | steps | checkpoint | temporary MB | seconds | resident MB |")
    print("|---|---|---|---|---|---|")
    for scan, steps, checkpoint in CASES:
        command = [sys.executable, __file__, "--case", json.dumps([scan, steps, checkpoint])]
        temporary, seconds, resident = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        name = f"| {scan} | {steps:,} | {'yes' if checkpoint else 'no'} |"
        print(f"{name} {temporary:.1f} | {seconds:.2f} | {resident:.0f} |", flush=True)


def measure(scan, steps, checkpoint):
    """Temporary MB, seconds of the faster of two calls, resident MB."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import seqjax

    problem = seqjax.Problem.of(seqjax.create("model", "rnn", hidden=256), seqjax.Spec(seqjax.Tokens(28)))
    params = problem.model.init(jax.random.key(0), problem.spec)
    state = jax.vmap(lambda _: problem.init_state(params))(jnp.arange(8))
    ids = np.random.default_rng(0).integers(0, 28, (steps + 1, 8)).astype(np.int32)
    problem = problem if scan == "fused" else seqjax.Problem(problem.step, problem.init_state)
    gradient = seqjax.value_and_grad(problem, seqjax.create("gradient", "full", checkpoint=checkpoint))
    compiled = jax.jit(gradient).lower(params, state, (ids[:-1], ids[1:])).compile()
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(params, state, (ids[:-1], ids[1:])))
        times.append(time.perf_counter() - begin)
    unit = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss is in bytes there, else in kB
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return compiled.memory_analysis().temp_size_in_bytes / 1e6, min(times), resident


if __name__ == "__main__":
    main()
