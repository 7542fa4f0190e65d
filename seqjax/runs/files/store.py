"""Reads and writes the folder of a run, and chooses the checkpoint from which a killed one continues.

Each change ends with the manifest, so that a kill leaves the run as it was.
"""

from collections.abc import Mapping
from pathlib import Path

from seqjax.array_files import saved_file
from seqjax.errors import Error
from seqjax.files import PART, disk_errors, make_folder, sync, write
from seqjax.runs.files import folder
from seqjax.runs.files.checkpoint import NAME, checkpoint_name
from seqjax.runs.files.folder import (
    BEST,
    CHECKPOINTS,
    CODEC,
    CONFIG,
    ENVIRONMENT,
    MANIFEST,
    METRICS,
    PARAMS,
    PLUGINS,
    RESULTS,
)
from seqjax.runs.files.manifest import (
    Content,
    Manifest,
    check_files,
    content_of,
    encode_manifest,
    read_manifest,
    write_manifest,
)
from seqjax.runs.files.rows import Row, encode_rows

KEPT = 2
"""The number of checkpoints that are kept during training: the newest and the previous one."""


def is_begun(path: Path) -> bool:
    """Whether a folder holds a run.

    Raises:
        Error: it holds files that are not those of a run; exit code 4: the config of a run is missing.
    """
    if not path.is_dir() or folder.is_run(path):
        return path.is_dir()
    names = sorted(file.name for file in path.iterdir())
    strange = [name for name in names if name not in folder.FIRST and not name.endswith(PART)]
    if strange:
        raise Error(f"{path} holds no run, but {', '.join(strange[:3])}; choose another folder")
    return False


def read_run(path: Path | None) -> dict[str, bytes]:
    """The bytes of the files that `Saved` has, by name. All files of the run are checked, and each is opened once.

    Args:
        path: the folder; None, or one without a run: the result is empty.

    Raises:
        Error: the folder holds files that are not those of a run; exit code 4: a file of the run is damaged.
    """
    if path is None or not is_begun(path):
        return {}

    def wanted(manifest: Manifest) -> list[str]:
        last = [name for name in manifest.checkpoints if (path / name).exists()][:1]
        always = (CONFIG, ENVIRONMENT, CODEC, METRICS, PARAMS, BEST)
        return [*(name for name in always if name in manifest.files), *last]

    manifest, _, data = check_files(path, wanted=wanted)
    files = {MANIFEST: encode_manifest(manifest), **data}
    # The manifest lists the rows at the end of training; until then, a checkpoint has the hash of those before it.
    return files if METRICS in files else {**files, METRICS: saved_file.read(path / METRICS, bytes)}


def check_unchanged(path: Path, manifest: Manifest | None) -> None:
    """Checks that the manifest of a run, which this process has locked, is still the one that was read before.

    Raises:
        Error: exit code 5: another process has changed the run in between.
    """
    now = read_manifest(path) if is_begun(path) else None
    if now != manifest:
        raise Error(f"{path} was changed by another process just now; type the same command again", exit_code=5)


def begin(path: Path, files: Mapping[str, bytes]) -> None:
    """Makes a run of its first files, by name. The config comes last, since it marks the folder as a run."""
    folder.remove_parts(path, folder.inner_folder(path, PLUGINS))
    for name, data in files.items():
        if name != CONFIG:
            _write(path, name, data)
    write(path / METRICS, b"")
    write_manifest(path, Manifest({name: content_of(data) for name, data in files.items()}))
    write(path / CONFIG, files[CONFIG])


def go_on(path: Path, manifest: Manifest, config: bytes, rows: list[Row]) -> None:
    """Prepares a run to continue: it has this config, the rows before its checkpoint, and no results."""
    folder.inner_folder(path, CHECKPOINTS)  # for its error, before the results are deleted
    folder.remove_parts(path, folder.inner_folder(path, PLUGINS))
    # A checkpoint that the user deleted is written again with other bytes, so its old content is dropped.
    left_out = {*RESULTS, *(name for name in manifest.checkpoints if not (path / name).exists())}
    new = {name: each for name, each in manifest.files.items() if name not in left_out} | {CONFIG: content_of(config)}
    continued = manifest._replace(files=new, ended="", next_config=None)
    if manifest.files[CONFIG] != new[CONFIG]:
        # While the config is being replaced, the old and the new one are both accepted.
        both = continued._replace(files=new | {CONFIG: manifest.files[CONFIG]}, next_config=new[CONFIG])
        write_manifest(path, both)
        write(path / CONFIG, config)
    write_manifest(path, continued)
    with disk_errors(path):
        for name in RESULTS[1:]:  # the results of the shorter run, which the manifest no longer lists
            (path / name).unlink(missing_ok=True)
    write(path / METRICS, encode_rows(rows))
    _remove_other_checkpoints(path, continued)


def save_checkpoint(path: Path, update: int, data: bytes, stopped_at: int | None = None) -> None:
    """Writes a checkpoint after this update, and then the manifest that lists it and the one before it.

    Args:
        path: the folder.
        update: the number of updates made.
        data: the bytes of the checkpoint.
        stopped_at: the epoch after which a callback ended training, if it did: it is not called again for this epoch.
    """
    name, manifest = checkpoint_name(update), read_manifest(path)
    if name in manifest.files:  # this update is already saved
        return
    with disk_errors(path):
        sync(path / METRICS)  # it relies on the rows before it
    _write(path, name, data)
    there = [file for file in manifest.checkpoints if (path / file).exists()]
    _list(path, manifest._replace(stopped_at=stopped_at), {name: content_of(data)}, there[: KEPT - 1])


def end(path: Path, files: Mapping[str, bytes], ended: Manifest) -> None:
    """Writes the results of a run, and then the manifest that lists them.

    Args:
        path: the folder.
        files: the results by name, without the metrics.
        ended: how training has ended; its files are ignored. Of a finished run the last checkpoint alone is kept, with
            which more epochs can follow.
    """
    with disk_errors(path):
        sync(path / METRICS)
    for name, data in files.items():
        _write(path, name, data)
    new = {name: content_of(data) for name, data in files.items()}
    new[METRICS] = content_of(saved_file.read(path / METRICS, bytes))
    manifest = read_manifest(path)
    kept = manifest.checkpoints[: 1 if ended.ended == "finished" else KEPT]
    _list(path, ended._replace(files=manifest.files), new, kept)


def _list(path: Path, manifest: Manifest, new: Mapping[str, Content], checkpoints: list[str]) -> None:
    """Writes the manifest with new files and, of the checkpoints that it lists, only these; deletes the others."""
    others = {*manifest.checkpoints} - {*checkpoints}
    files = {name: content for name, content in manifest.files.items() if name not in others}
    manifest = manifest._replace(files=files | dict(new))
    write_manifest(path, manifest)
    _remove_other_checkpoints(path, manifest)


def _write(path: Path, name: str, data: bytes) -> None:
    """Writes a file of a run, whose folder may be missing."""
    folder.check_lock(path)
    inner = folder.inner_folder(path, str(Path(name).parent)) if "/" in name else path
    try:
        with disk_errors(path):
            make_folder(inner)
        write(path / name, data)
    except BaseException:
        folder.remove_if_empty(inner)
        raise


def _remove_other_checkpoints(path: Path, manifest: Manifest) -> None:
    """Deletes the checkpoints that the manifest does not list, and incomplete ones, which a kill has left."""
    checkpoints = folder.inner_folder(path, CHECKPOINTS)
    with disk_errors(path):
        for file in checkpoints.iterdir() if checkpoints.is_dir() else ():
            is_listed = f"{CHECKPOINTS}/{file.name}" in manifest.files
            if not is_listed and (NAME.fullmatch(file.name) or file.name.endswith(PART)):
                file.unlink()
