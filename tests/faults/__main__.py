"""Makes faults on purpose, and prints in a table how many of them did no harm.

    python tests/faults                     everything
    python tests/faults --quick             the part that runs with the tests
    python tests/faults --only crash flips  some of the modules

The modules are crash (kills and power cuts), errors (a disk that fails), flips (changed files), signals (signals and
pipes), escapes (control characters), fuzz (input). The exit code is 1 if something did not hold.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
MODULES = ("crash", "errors", "flips", "signals", "escapes", "fuzz")
WIDTH = 64


def main() -> int:
    """Runs the modules, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, metavar="MODULE")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    problems, begin = [], time.monotonic()
    print(f"{'what':{WIDTH}} {'tried':>7} {'held':>7} {'seconds':>8}", flush=True)
    for name in args.only:
        began = time.monotonic()
        for part in importlib.import_module(f"faults.{name}").parts(args.quick):
            ended = time.monotonic()
            print(f"{part.what:{WIDTH}} {part.tried:7,} {part.held:7,} {ended - began:8.0f}", flush=True)
            began = ended
            problems += [f"{part.what}: {problem}" for problem in part.problems]
    print(f"\n{len(problems)} problems in {time.monotonic() - begin:.0f} seconds")
    for problem in problems:
        print(f"- {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    with tempfile.TemporaryDirectory() as folder:
        # Before jax is imported: one device, and programs that all processes share.
        os.environ |= {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "XDG_CACHE_HOME": f"{folder}/user",
            "TMPDIR": folder,
        }
        sys.exit(main())
