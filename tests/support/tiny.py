"""The small experiment that the tests of runs share, so that its programs are compiled once."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from seqjax import Error, Experiment, Text
from seqjax.models import RNN
from seqjax.optimizers import Adam
from seqjax.report import plot
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import check_files, content_of, read_manifest, write_manifest
from seqjax.samplers import Sequential
from seqjax.training import feed
from support.crash import NoFigure, results

SENTENCE = "the cat sat on the mat. "
TEXT = SENTENCE * 20
TINY = Experiment(
    dataset=Text(TEXT), model=RNN(hidden=8), sampler=Sequential(2, 8), optimizer=Adam(0.05, clip_norm=1.0), epochs=2
)
"""Its epochs have two chunks, the second of which is shorter."""
NOISE = "".join(np.random.default_rng(1).choice([*"the catsonm."], 480))
"""A text of the same tokens, of which nothing can be learned but by heart: the first epoch is the best one."""


def changed(experiment: Experiment = TINY, **fields) -> Experiment:
    return dataclasses.replace(experiment, **fields)


FULL = changed(train=1.0, dataset=Text(NOISE[:432]), heldout=Text(NOISE[432:]), keep="best")
"""An experiment of the same shapes, whose folder has files of all kinds."""


@contextlib.contextmanager
def small_chunks() -> Iterator[None]:
    """A context in which an epoch has two chunks, and what would take longer than them is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "CHUNK_STEPS", 14 * 2 * 8)
        patch.setattr(plot, "history", NoFigure)
        patch.setattr(importlib.metadata, "version", functools.cache(importlib.metadata.version))
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def copy(path: Path, to: Path) -> Path:
    return Path(shutil.copytree(path, to))


def left(path: Path) -> tuple:
    """What a command has to leave in the folder of a run, whatever came before: files that are intact, and the same."""
    manifest, best = check_files(path).manifest, path / folder.BEST
    texts = (path / folder.CONFIG).read_text(), best.read_bytes() if best.exists() else None
    return results(path), texts, manifest._replace(files={}), {*manifest.files}


def replace_file(path: Path, name: str, data: bytes) -> None:
    """Changes a file of a run, and its hash in the manifest with it."""
    (path / name).write_bytes(data)
    manifest = read_manifest(path)
    write_manifest(path, manifest._replace(files=manifest.files | {name: content_of(data)}))


def flip(file: Path, at: float = 0.5) -> None:
    """Changes one bit of a file: of the byte at a place, or at a share of its length."""
    data = bytearray(file.read_bytes())
    data[int(at * len(data)) if isinstance(at, float) else at] ^= 1
    file.write_bytes(data)


@contextlib.contextmanager
def refused(match: str, exit_code: int = 4) -> Iterator[pytest.ExceptionInfo[Error]]:
    """A context in which an `Error` of these words with this exit code is raised."""
    with pytest.raises(Error, match=match) as caught:
        yield caught
    assert caught.value.exit_code == exit_code
