"""Takes the files of a run as they are, after they were changed by hand or made by an earlier version of seqjax."""

import warnings
from pathlib import Path

from seqjax.errors import Error
from seqjax.files import write
from seqjax.runs import checkpoint, folder
from seqjax.runs.binding import binding
from seqjax.runs.experiment import read_experiment
from seqjax.runs.manifest import RESULTS, Manifest, changed_files, first_hashes, hashes, read_manifest, write_manifest
from seqjax.runs.params_file import read_arrays
from seqjax.runs.rows import read_rows, rewrite_rows
from seqjax.runs.run import Run

WRITTEN = (folder.METRICS, folder.MANIFEST)
"""The files that `adopt` writes."""


def adopt(path: Path) -> list[str]:
    """Writes the manifest of a run anew, which keeps the names of the files that were changed.

    States that were saved under the old files count as states of the run, so that an interrupted run goes on from them.

    Args:
        path: the folder of the run.

    Returns:
        The names of the files that have changed since the last manifest; without one, the name of the manifest.

    Raises:
        Error: the folder holds no run; parameters or the metrics are damaged, or the files do not belong together, so
            that no command could use the run (exit code 4); the run is in use (exit code 5).
    """
    if not (path / folder.CONFIG).is_file():
        raise Error(f"{path} holds no run: it has no {folder.CONFIG}; choose another folder")
    with folder.lock(path):
        states = _states(path)  # before anything is written, since damaged parameters are an error
        before, changed = _changed(path, states)
        if not changed:
            return []
        old = {name: (path / name).read_bytes() for name in WRITTEN if (path / name).is_file()}
        rewrite_rows(path)
        names = [folder.CONFIG, folder.STOPPED, *(RESULTS if folder.PARAMS in states else ())]
        now = Manifest(
            files=first_hashes(path) | hashes(path, names),
            changed=list(dict.fromkeys([*before.changed, *changed])),
            bound=before.bound + _foreign(path, before, states),
        )
        # In one write: a kill before it leaves a run whose files have changed, and that can be adopted again.
        write_manifest(path, now)
        try:
            Run.open(path) if states else read_experiment(path)
        except Error as fault:
            for name, data in old.items():
                write(path / name, data)
            if folder.MANIFEST not in old:
                (path / folder.MANIFEST).unlink()
            raise Error(f"{path} is left as it was, and not adopted: {fault}", exit_code=fault.exit_code) from fault
    return changed


def _changed(path: Path, states: dict[str, dict[str, str]]) -> tuple[Manifest, list[str]]:
    """The manifest of a run and the names of the files that have changed; an empty one if it is missing or damaged."""
    try:
        manifest = read_manifest(path)
    except Error:
        return Manifest({}, [], []), [folder.MANIFEST]
    changed = list(changed_files(path, manifest))
    # The files that are not in the manifest before training ends, if the others are as they were.
    if not changed and folder.METRICS not in manifest.files and not _has_intact_rows(path):
        changed.append(folder.METRICS)
    if not changed and _foreign(path, manifest, states):
        changed += states
    return manifest, changed


def _has_intact_rows(path: Path) -> bool:
    with warnings.catch_warnings(action="ignore"):  # about an incomplete last line, which is no change
        try:
            read_rows(path)
        except Error:
            return False
    return True


def _foreign(path: Path, manifest: Manifest, states: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    """The bindings of states that were saved under other files than those of the run, without repetitions."""
    found: list[dict[str, str]] = []
    for state in states.values():
        if state not in [*manifest.bound, binding(path), *found]:
            found.append(state)
    return found


def _states(path: Path) -> dict[str, dict[str, str]]:
    """The name of each file with a state of the run -> its hashes of `binding`."""
    files = [name for name in (folder.PARAMS, folder.BEST) if (path / name).is_file()]
    found = {name: read_arrays(path, name)[1]["binding"] for name in files}
    last = checkpoint.newest(path, check=False)
    return found | ({folder.CHECKPOINTS: last.bound} if last else {})
