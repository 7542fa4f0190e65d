"""The problem that is computed with public code and with seqjax: a small tanh network, in numpy alone.

The scripts of this folder import this module in environments that have no seqjax and no jax.

    h_t = (1 - alpha) h_{t-1} + alpha tanh(W h_{t-1} + U x_t + b),   l_t = |R h_t + c - y_t|² / 2

A gradient is float[units, units + inputs + 1]: row i has the derivatives by W[i], U[i] and b[i].
"""

import hashlib
import json
import platform
import subprocess
from pathlib import Path

import numpy as np

UNITS, INPUTS, OUTPUTS, STEPS = 6, 2, 2, 12
AFTER = (1, 2, 3, 6, 12)
"""The numbers of steps after which the sum of the gradients of the losses so far is recorded."""
LEAKS = {"tanh": 1.0, "leaky": 0.4}
"""Network -> alpha."""


class Setting:
    """The arrays of the problem, all from one seed, in float64."""

    def __init__(self) -> None:
        random = np.random.RandomState(2024)  # unlike that of `default_rng`, its stream is the same in all versions
        self.W = 1.3 / UNITS**0.5 * random.normal(size=(UNITS, UNITS))
        self.U = 0.7 * random.normal(size=(UNITS, INPUTS))
        self.b = 0.3 * random.normal(size=UNITS)
        self.R = random.normal(size=(OUTPUTS, UNITS)) / UNITS**0.5
        self.c = 0.2 * random.normal(size=OUTPUTS)
        self.h_0 = 0.5 * random.normal(size=UNITS)
        self.x = random.normal(size=(STEPS, INPUTS))
        self.y = random.normal(size=(STEPS, OUTPUTS))
        self.signs = random.choice([-1.0, 1.0], size=(STEPS, UNITS))
        """The ν of `uoro`. The first two of each step are those of `kf-rtrl`."""
        self.s_0 = random.normal(size=UNITS)
        """What code that does not start from zero starts from: s̃ of `uoro`, float[units]."""
        self.theta_0 = random.normal(size=(UNITS, UNITS + INPUTS + 1))
        """The same for θ̃ of `uoro`."""
        self.A_0 = random.normal(size=UNITS + INPUTS + 1)
        """The same for the vector of `kf-rtrl`."""
        self.B_0 = random.normal(size=(UNITS, UNITS))
        """The same for the matrix of `kf-rtrl`."""
        self.zeta = 0.3 * random.normal(size=(STEPS + 1, UNITS))
        """The perturbations of `kernl`."""
        self.synthetic_0 = 0.3 * random.normal(size=(UNITS, UNITS + OUTPUTS + 1))
        """The first weights of the synthetic gradient of `dni`, which reads (h, y, 1)."""

    @property
    def feedback(self) -> np.ndarray:
        """Feedback weights in the place of those of the read-out, float[outputs, units], for `rflo`."""
        return self.theta_0[:OUTPUTS, :UNITS]

    def digest(self) -> str:
        """A short digest of all arrays."""
        found = hashlib.sha256()
        for name, array in sorted(vars(self).items()):
            found.update(name.encode() + np.ascontiguousarray(array, "<f8").tobytes())
        return found.hexdigest()[:16]


def running_sums(gradients: np.ndarray) -> list:
    """For each number of `AFTER`, the sum of as many first gradients of float[STEPS, units, units + inputs + 1]."""
    gradients = np.asarray(gradients, np.float64)
    assert gradients.shape == (STEPS, UNITS, UNITS + INPUTS + 1), gradients.shape
    return [gradients[:count].sum(0).tolist() for count in AFTER]


def recorded(name: str) -> dict:
    """What a script has written to `name`.json."""
    return json.loads(Path(__file__).with_name(f"{name}.json").read_text("utf-8"))


def write(name: str, repository: str, commit: str, versions: dict, rules: dict) -> None:
    """Writes what a script has found to `name`.json, beside the script.

    Args:
        name: the name of the file.
        repository: such as owner/name.
        commit: of the code that was run; "": a released version, see `versions`.
        versions: of the packages.
        rules: name of a rule -> {"sums": those of `running_sums`, and what else defines or describes it}.
    """
    versions = {"python": platform.python_version(), "numpy": np.__version__} | versions
    record = {
        "repository": repository,
        "commit": commit,
        "versions": versions,
        "setting": Setting().digest(),
        "after": list(AFTER),
    }
    # A float is written with as many digits, up to 17, as make it exact. Each rule has a line of its own.
    rules = ",\n".join(f"  {json.dumps(rule)}: {json.dumps(found, allow_nan=False)}" for rule, found in rules.items())
    text = json.dumps(record, indent=1)[:-2] + f',\n "rules": {{\n{rules}\n }}\n}}\n'
    path = Path(__file__).with_name(f"{name}.json")
    path.write_text(text, "utf-8")
    print(f"{path.name}: {len(text) / 1000:.0f} kB, {versions}")


def commit_of(folder: str | Path) -> str:
    """The commit of a repository that is checked out in a folder."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
