"""`reproduce`: trains a run again from its config in another folder, and compares the results."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqjax.array_files import saved_file
from seqjax.array_files.arrays import by_name
from seqjax.columns import COLUMNS
from seqjax.data.preparing import load_all
from seqjax.errors import Error
from seqjax.runs.carry_out import Options
from seqjax.runs.environment import read_environment
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import read_manifest
from seqjax.runs.refusals import refuse_data
from seqjax.runs.run import Run, run_in
from seqjax.terminal.live import shows_progress
from seqjax.training.devices import usable_devices
from seqjax.training.loop import Diverged

TIMES = [column.name for column in COLUMNS if column.is_time]
"""The columns of the metrics that measure time, which are not compared."""

TOLERANCE = 0.01
"""The largest difference, relative to the largest entry of a leaf or a column, with which results are equal within
tolerance. Rounding on one device in place of two gave 0.006 after 445 updates of the default model with 64 units; a
learning rate of 1.001 in place of 1 gave 0.2."""


class ComparedPart(NamedTuple):
    """How one part of the results of two runs differs.

    Args:
        part: its name: "parameters", or a column of the metrics.
        compared: how much was compared.
        equal: whether all of it is equal, to the last bit.
        absolute: the largest difference; None: the part is no number.
        relative: the largest difference, relative to the largest entry of the leaf or the column.
    """

    part: str
    compared: str
    equal: bool
    absolute: float | None = None
    relative: float | None = None


class Reproduction(NamedTuple):
    """The comparison of a run with the one that was trained again.

    Args:
        parts: the parts of the results.
        environment: what differs in the environment, one line each.
        equal_epochs: the number of epochs from the first one in which all metrics are equal within `TOLERANCE`. It is 0
            if the trainings differ from the beginning. A rounding is enlarged later.
    """

    parts: list[ComparedPart]
    environment: list[str]
    equal_epochs: int

    @property
    def is_bitwise(self) -> bool:
        """Whether all results are equal to the last bit."""
        return all(part.equal for part in self.parts)

    @property
    def different(self) -> list[ComparedPart]:
        """The parts that are not equal within `TOLERANCE`.

        Samples may differ, since a rounding may change which token is the likeliest.
        """
        return [
            part
            for part in self.parts
            if not (part.equal or part.part == "samples" or (part.relative is not None and part.relative <= TOLERANCE))
        ]


def check_reproducible(run: Run, out: Path) -> None:
    """Checks that a run can be trained again in another folder.

    Raises:
        Error: the run is unfinished, or was started from parameters that were given in Python; the other folder is its
            own, or holds a run that has ended; the dataset has changed (exit code 4).
    """
    assert run.path is not None
    if not (run.finished or run.diverged):
        raise Error(f"{run.path} is unfinished: type the command that began it, which resumes it, and then this one")
    environment = read_environment(run.path)
    if environment.initial_params_sha256 is not None and run.experiment.init_from is None:
        raise Error(
            f"{run.path} was started from parameters that were given in Python, and a run does not keep them\n"
            "Train it again in Python, with the same script in another folder"
        )
    if out.resolve() == run.path.resolve() or ((out / folder.MANIFEST).exists() and read_manifest(out).ended):
        raise Error(f"{out} holds a run that has ended; choose another folder for the one that is trained again")
    sources = load_all(run.experiment.dataset, run.experiment.heldout)
    refuse_data(run.path, environment.data_sha256, {name: data.sha256 for name, data in sources.items()})


def reproduce(run: Run, out: Path, progress: bool | None = None) -> Reproduction:
    """Trains a run again from its config, on as many devices as the run if it can, and compares the results.

    Where its callback ended training, training ends after the same epoch.

    Args:
        run: a run with a folder, which `check_reproducible` has checked.
        out: the folder in which it is trained again. An interrupted training goes on.
        progress: whether to show the progress; None: on a terminal and in a notebook.

    Raises:
        Error: the run cannot be trained here.
    """
    assert run.path is not None
    stop = run.stopped_at
    callback = None if stop is None else lambda made: made.metrics[-1]["epoch"] == stop
    options = Options(progress=shows_progress(progress), callback=callback)
    environment = read_environment(run.path)
    sampler, devices = run.experiment.sampler, environment.devices
    can_use = sampler is not None and devices in usable_devices(sampler.batch_size)
    with contextlib.suppress(Diverged):  # the folder has the results before it
        run_in(run.experiment, out, options, devices if can_use else None)
    made = Run.open(out)  # numbers that are not finite are equal in the file alone
    differing = environment.differences(read_environment(out))
    return Reproduction(compare(run, made), differing, _equal_epochs(run.metrics, made.metrics))


def compare(run: Run, made: Run) -> list[ComparedPart]:
    """The parts of the results of two runs with folders."""
    epochs = [len(one.metrics) for one in (run, made)]
    ends = [(one.diverged, one.ending) for one in (run, made)]
    count = f"{epochs[0]} and {epochs[1]}" if epochs[0] != epochs[1] else f"{epochs[0]}"
    parts = [
        ComparedPart(
            "epochs", count + (", diverged" if run.diverged else ""), epochs[0] == epochs[1] and ends[0] == ends[1]
        ),
        ComparedPart("vocabulary or scale", folder.CODEC, run.codec_text == made.codec_text),
        _params("parameters", run.params, made.params),
    ]
    # If one of them was never evaluated, the metrics show it.
    if run.experiment.keep == "best" and run.best_epoch and made.best_epoch:
        parts.append(_params(f"parameters of epoch {run.best_epoch}", run.best_params, made.best_params))
    columns = _columns(run.metrics, made.metrics)
    parts += [ComparedPart(name, f"{len(pair[0])} epochs", *difference(*pair)) for name, pair in columns.items()]
    samples = [_samples(one) for one in (run, made)]
    return parts if samples == ["", ""] else [*parts, ComparedPart("samples", folder.SAMPLES, samples[0] == samples[1])]


def _params(name: str, params: Any, made: Any) -> ComparedPart:
    """The part of the parameters: the largest differences of all leaves."""
    old, new = by_name(params), by_name(made)
    compared = f"{len(old)} leaves, {sum(leaf.size for leaf in old.values()):,} numbers"
    if old.keys() != new.keys():
        return ComparedPart(name, compared, False, math.inf, math.inf)
    leaves = [difference(old[leaf], new[leaf]) for leaf in old]
    return ComparedPart(
        name,
        compared,
        all(equal for equal, _, _ in leaves),
        max((absolute for _, absolute, _ in leaves), default=0.0),
        max((relative for _, _, relative in leaves), default=0.0),
    )


def _equal_epochs(rows: Sequence[dict[str, Any]], made: Sequence[dict[str, Any]]) -> int:
    """The number of epochs from the first one in which no column differs by more than `TOLERANCE`."""
    differ = [_gaps(a, b) > TOLERANCE * _largest(a) for a, b in _columns(rows, made).values()]
    return min((int(np.argmax(each)) if each.any() else len(each) for each in differ), default=0)


def _columns(rows: Sequence[dict[str, Any]], made: Sequence[dict[str, Any]]) -> dict[str, list[np.ndarray]]:
    """The columns that measure no time, float64[epochs] of both runs, over the epochs that both have."""
    both = min(len(rows), len(made))
    names = dict.fromkeys(name for row in (*rows[:1], *made[:1]) for name in row if name not in TIMES)
    return {
        name: [np.array([row.get(name, math.nan) for row in each[:both]], np.float64) for each in (rows, made)]
        for name in names
    }


def _samples(run: Run) -> str:
    """The generated texts in the folder of a run; empty if it has none."""
    assert run.path is not None
    file = run.path / folder.SAMPLES
    return saved_file.read_text(file) if file.is_file() else ""


def difference(old: np.ndarray, new: np.ndarray) -> tuple[bool, float, float]:
    """Whether two arrays are equal to the last bit, and their largest difference: max|a - b|, and max|a - b| / max|a|.

    Equal infinities and NaN in the same place do not differ; in only one of them, they differ by infinity.
    """
    if (old.shape, old.dtype) != (new.shape, new.dtype):
        return False, math.inf, math.inf
    absolute = float(_gaps(old, new).max(initial=0.0))
    largest = _largest(old)
    relative = 0.0 if absolute == 0 else absolute / largest if largest else math.inf
    return old.tobytes() == new.tobytes(), absolute, relative


def _gaps(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """|a - b| of each entry in float64; 0 for equal infinities and for two NaN, infinity for one of them."""
    a, b = _wide(old), _wide(new)
    with np.errstate(invalid="ignore"):
        gaps = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return np.where(np.isnan(gaps), math.inf, gaps)


def _largest(array: np.ndarray) -> float:
    """The largest finite |a|; 0 if there is none."""
    a = _wide(array)
    return float(np.abs(a[np.isfinite(a)]).max(initial=0.0))


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)
