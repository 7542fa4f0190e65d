"""What one resume reads: each file of the run once, and each object of Python once."""

import collections
import os

import optax
from support.tiny import FULL, changed

from seqjax.runs import fingerprint
from seqjax.runs.files import folder


def test_a_resume_opens_each_file_for_reading_once(stopped, monkeypatch):
    """The manifest is read again when the folder is locked: another process may have trained the run before that."""
    opened, real = collections.Counter(), os.open

    def counted(path, flags, *args, **kwargs):
        if flags & os.O_ACCMODE == os.O_RDONLY and os.path.isfile(path):
            opened[os.path.relpath(path, stopped)] += 1
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", counted)
    before = {str(file.relative_to(stopped)) for file in stopped.rglob("*") if file.is_file()}

    def begun(run):
        """What training itself reads comes later."""
        seen.append(dict(opened))

    seen = []
    assert FULL.run(stopped, callback=begun).finished
    read = {name: count for name, count in seen[0].items() if name in before}
    assert read.pop(folder.MANIFEST) == 2
    assert set(read) == before - {folder.LOCK, folder.MANIFEST}
    assert set(read.values()) == {1}


def test_a_resume_traces_each_object_of_python_once(tmp_path, monkeypatch):
    experiment = changed(FULL, optimizer=optax.sgd(0.1), epochs=1)
    experiment.run(tmp_path / "run")
    traced, real = [], fingerprint._hashes
    monkeypatch.setattr(fingerprint, "_hashes", lambda calls: (traced.append(calls), real(calls))[1])
    changed(experiment, epochs=2).run(tmp_path / "run")
    assert len(traced) == 1
