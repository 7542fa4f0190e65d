"""Finds what the folder of a run holds, and makes the folder of a new run or prepares an old one to continue.

| the folder holds | the same command | with more epochs |
|---|---|---|
| nothing | begins | |
| a run that has begun | continues from the last checkpoint | the same |
| a run that has ended | opens it | continues, if the result is that of a run given that number from the start |
| a run that has diverged | raises the same error | an error |
| another experiment, or other files | an error | an error |
"""

import json
from collections.abc import Container
from pathlib import Path

from seqjax.errors import Error
from seqjax.files import PART, write
from seqjax.runs import stored
from seqjax.runs.environment import Record, changes, copy_local_plugins, environment, read_environment
from seqjax.runs.experiment import config_bytes, differences, goes_on
from seqjax.runs.files import checkpoint, folder
from seqjax.runs.files.arrays import by_name, sha256_of
from seqjax.runs.files.data import write_data
from seqjax.runs.files.manifest import Manifest, hashes, read_manifest, sha256, write_manifest
from seqjax.runs.files.rows import write_rows
from seqjax.runs.state import RunState
from seqjax.runs.stored import Training
from seqjax.training.fit import Fit
from seqjax.training.layout import Layout
from seqjax.training.optimizer import Optimizer, depends_on_num_updates


def find(run: RunState) -> dict[str, bytes]:
    """The files in the folder of a run that have what training has left; empty: the run begins there.

    Raises:
        Error: the folder holds a run of another experiment, one that cannot continue, or other files; a file of it is
            damaged, or the dataset has changed (exit code 4).
    """
    path, asked = run.path, run.experiment
    if path is None or not is_begun(path):
        return {}
    manifest, kept = stored.read_experiment(path, type(asked))
    more = goes_on(kept, asked)
    if problems := differences(kept, asked, ["epochs"] if more else []):
        advice = "\nA run can continue for more epochs, and not for fewer" if kept.epochs > asked.epochs else ""
        raise Error(f"{path} holds a run of another experiment; choose another folder{advice}", problems=problems)
    stored.check_data(path, run.prepared.sources)
    if more:
        _check_goes_on(run, kept.epochs, manifest)
    return stored.read_files(path, manifest)


def is_begun(path: Path) -> bool:
    """Whether a folder holds a run.

    Raises:
        Error: it holds files that are not those of a run.
    """
    if not path.is_dir() or (path / folder.CONFIG).is_file():
        return path.is_dir()
    names = sorted(file.name for file in path.iterdir())
    strange = [name for name in names if name not in folder.FIRST and not name.endswith(PART)]
    if strange:
        raise Error(f"{path} holds no run, but {', '.join(strange[:3])}; choose another folder")
    return False


def _check_goes_on(run: RunState, kept_epochs: int, manifest: Manifest) -> None:
    """Checks that a run of fewer epochs would have the same bits if all epochs had been asked for at once."""
    e, why = run.experiment, None
    if manifest.ended == "diverged":
        why = "it has diverged"
    elif manifest.ended and not manifest.checkpoints:
        why = f"the state of its optimizer is not kept in {folder.CHECKPOINTS}"
    elif isinstance(e.optimizer, Optimizer) and depends_on_num_updates(e.optimizer, e.fit().params_like(run.problem)):
        why = "the updates of its optimizer depend on the number of epochs, by a schedule or a warm-up"
    elif manifest.ended and kept_epochs % e.evaluate_every:
        why = f"its last epoch was evaluated, and is no multiple of evaluate_every = {e.evaluate_every}"
    if why:
        raise Error(
            f"{run.path} cannot continue from {kept_epochs} to {e.epochs} epochs as if they had been asked for at "
            f"once: {why}\nTrain {e.epochs} epochs in another folder"
        )


def open_folder(run: RunState, fit: Fit, kept: Training | None) -> None:
    """Makes the folder of a new run, or prepares that of a run to continue. The caller holds its lock.

    Args:
        run: the run.
        fit: how it is fitted.
        kept: what training has left, as it was read before the folder was locked; None: nothing.

    Raises:
        Error: another process has changed the folder in between (exit code 5); the run was begun in another
            environment (4).
    """
    assert run.path is not None
    now = read_manifest(run.path) if is_begun(run.path) else None
    if now != (kept.manifest if kept else None):
        raise Error(f"{run.path} was changed by another process just now; type the same command again", exit_code=5)
    for path in (run.path, folder.inner_folder(run.path, folder.PLUGINS)):
        folder.remove_parts(path)
    if kept is None:
        _begin(run, fit)
    else:
        _go_on(run, fit, kept)


def _begin(run: RunState, fit: Fit) -> None:
    """Writes the files that precede training. The config comes last, since it marks the folder as a run."""
    assert run.path is not None
    write(run.path / folder.ENVIRONMENT, json.dumps(environment_of(run, fit), indent=2) + "\n")
    write(run.path / folder.CODEC, run.codec_text)
    write(run.path / folder.METRICS, b"")
    copies = copy_local_plugins(run.path, run.experiment)
    in_memory = {name: data for name, data in run.prepared.sources.items() if getattr(run.experiment, name) is data}
    for name, data in in_memory.items():
        write_data(run.path, name, data)
    config = config_bytes(run.experiment)
    names = [folder.ENVIRONMENT, folder.CODEC, *copies, *(folder.DATA[name] for name in in_memory)]
    write_manifest(run.path, Manifest(hashes(run.path, names) | {folder.CONFIG: sha256(config)}))
    write(run.path / folder.CONFIG, config)


def _go_on(run: RunState, fit: Fit, kept: Training) -> None:
    """Prepares the folder of a run that continues: it has the rows before the checkpoint, and no results."""
    assert run.path is not None
    check_environment(run, fit)
    if folder.read_text(run.path / folder.CODEC) != run.codec_text:
        raise Error(f"{run.path}: its tokenizer no longer gives the ids that it was trained on", exit_code=4)
    config = config_bytes(run.experiment)
    files = {name: hash_ for name, hash_ in kept.manifest.files.items() if name not in folder.RESULTS}
    goes_on = kept.manifest._replace(files=files | {folder.CONFIG: sha256(config)}, ended="", next_config="")
    if kept.manifest.files[folder.CONFIG] != sha256(config):
        # While the config is replaced, the old one and the new one are both right.
        write_manifest(run.path, goes_on._replace(files=files, next_config=sha256(config)))
        write(run.path / folder.CONFIG, config)
    write_manifest(run.path, goes_on)
    for name in folder.RESULTS[1:]:  # those of fewer epochs, which the manifest no longer lists
        (run.path / name).unlink(missing_ok=True)
    write_rows(run.path, kept.rows)
    checkpoint.remove_others(run.path, goes_on)


def environment_of(run: RunState, fit: Fit) -> Record:
    """The record of what a run depends on here."""
    data = {name: data.sha256 for name, data in run.prepared.sources.items()}
    given = None if fit.params is None else sha256_of(by_name(fit.params))
    return environment(run.experiment, data, Layout(fit.num_devices, fit.precision), given)


def begun_layout(path: Path | None) -> Layout | None:
    """The layout in which the run in a folder was begun; None: there is no run."""
    if path is None or not (path / folder.CONFIG).is_file():
        return None
    record = read_environment(path)
    return Layout(record["devices"], record["precision"])


def check_environment(run: RunState, fit: Fit, but: Container[str] = ()) -> None:
    """Raises an `Error` unless dataset and environment are those with which the run in `run.path` was begun."""
    assert run.path is not None
    stored.check_data(run.path, run.prepared.sources)
    problems = changes(read_environment(run.path), environment_of(run, fit), but)
    if problems:
        raise Error(
            f"{run.path} was begun in another environment, so that its result could change here\n"
            "Resume it in that environment, in as many processes (--devices sets the number of devices, and with the "
            "launcher local --launcher.jobs does), or train in another folder:",
            problems=problems,
            exit_code=4,
        )
