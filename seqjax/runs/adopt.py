"""Takes the files of a run as they are, after they were changed by hand or made by an earlier version of seqjax."""

from pathlib import Path

from seqjax.errors import Error
from seqjax.runs import checkpoint, folder
from seqjax.runs.binding import binding
from seqjax.runs.manifest import RESULTS, Manifest, changed_files, first_hashes, hashes, read_manifest, write_manifest
from seqjax.runs.params_file import read_arrays
from seqjax.runs.rows import rewrite_rows


def adopt(path: Path) -> list[str]:
    """Writes the manifest of a run anew, which keeps the names of the files that were changed.

    States that were saved under the old files count as states of the run, so that an interrupted run goes on from them.

    Args:
        path: the folder of the run.

    Returns:
        The names of the files that have changed since the last manifest; without one, the name of the manifest.

    Raises:
        Error: the folder holds no run; parameters or the metrics are damaged, so that they cannot be adopted (exit code
            4); the run is in use (exit code 5).
    """
    if not (path / folder.CONFIG).is_file():
        raise Error(f"{path} holds no run: it has no {folder.CONFIG}; choose another folder")
    with folder.lock(path):
        old = read_manifest(path) if (path / folder.MANIFEST).exists() else None
        changed = [folder.MANIFEST] if old is None else changed_files(path, old)
        if not changed:
            return []
        states = _bindings(path)  # before anything is written, since damaged parameters are an error
        rewrite_rows(path)
        ended = (path / folder.PARAMS).is_file()
        names = [folder.CONFIG, folder.STOPPED, *(RESULTS if ended else ())]
        before = Manifest({}, [], []) if old is None else old
        now = Manifest(
            files=first_hashes(path) | hashes(path, names),
            changed=list(dict.fromkeys([*before.changed, *changed])),
            bound=before.bound + [state for state in states if state not in [*before.bound, binding(path)]],
        )
        # In one write: a kill before it leaves a run whose files have changed, and that can be adopted again.
        write_manifest(path, now)
    return changed


def _bindings(path: Path) -> list[dict[str, str]]:
    """The hashes of `binding` in the states of a run, without repetitions."""
    found = [read_arrays(path, file)[1]["binding"] for file in (folder.PARAMS, folder.BEST) if (path / file).is_file()]
    last = checkpoint.newest(path, check=False)
    found += [last.bound] if last else []
    return [state for n, state in enumerate(found) if state not in found[:n]]
