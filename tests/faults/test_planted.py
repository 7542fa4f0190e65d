"""Faults of seqjax itself, planted one by one: each is caught by the part of `make faults` that looks for it."""

import contextlib
import hashlib
import os
import sys
from unittest import mock

import jax
import pytest

from faults import crash, errors, flips
from faults.kinds import BY_NAME
from seqjax.runs import checkpoint, folder, manifest, params_file
from seqjax.runs.files.manifest import read_manifest, write_manifest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("optimized"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture
def place(tmp_path):
    """A folder that does not exist."""
    return tmp_path / "place"


def planted(name, *faults):
    """A kind of run whose command has faults: (module, name of a function, function -> what replaces it)."""
    kind = BY_NAME[name]

    def command(data, out):
        with contextlib.ExitStack() as stack:
            for module, attribute, make in faults:
                stack.enter_context(mock.patch.object(module, attribute, make(getattr(module, attribute))))
            return kind.command(data, out)

    return kind._replace(command=command)


def problems(parts):
    return [problem for part in parts for problem in part.problems]


def late_fsync():
    """A file is renamed, and synced only then."""

    def fsync(real):
        return lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}").endswith(".part") or real(descriptor)

    def replace(real):
        def call(part, path):
            real(part, path)
            descriptor = os.open(path, os.O_RDONLY)
            sync(descriptor)
            os.close(descriptor)

        sync = os.fsync
        return call

    # The rename is replaced first, so that it still has the fsync that works.
    return (os, "replace", replace), (os, "fsync", fsync)


def test_a_rename_before_the_fsync_is_caught_by_power_cuts(place):
    found = crash.states_of(planted("rnn", *late_fsync()), place, most_kills=0, most_cuts=60)
    assert any("exit code 4" in problem for problem in problems(found))


def test_a_manifest_before_the_results_is_caught_by_kills(place):
    def manifest_first(real):
        def write(path, data):
            if path.name == folder.PARAMS:
                manifest = read_manifest(path.parent)
                hashes = {path.name: [hashlib.sha256(data).hexdigest()]}
                write_manifest(path.parent, manifest._replace(files=manifest.files | hashes))
            real(path, data)

        return write

    found = crash.states_of(planted("rnn", (params_file, "write", manifest_first)), place, most_cuts=0)
    assert any("params.safetensors is missing" in problem for problem in problems(found))


def restored(change):
    return checkpoint, "restore", lambda real: lambda *args: change(real(*args))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("lstm, dropout, truncated, adam", lambda state: state._replace(key=jax.random.split(state.key)[0])),
        ("rnn", lambda state: state._replace(update=state.update + 1)),
    ],
    ids=["a key drawn twice", "a cursor off by one"],
)
def test_a_resume_from_another_state_is_caught_by_kills(place, name, change):
    found = crash.states_of(planted(name, restored(change)), place, most_kills=20, most_cuts=0)
    assert any("other bits in" in problem and "params.safetensors" in problem for problem in problems(found))


def test_rows_that_are_not_synced_before_a_checkpoint_are_caught_by_power_cuts(place):
    def but_metrics(real):
        return lambda path: None if path.name == folder.METRICS else real(path)

    found = crash.states_of(planted("rnn", (checkpoint, "sync", but_metrics)), place, most_kills=0, most_cuts=200)
    assert any("metrics.jsonl" in problem for problem in problems(found))


def test_a_file_that_is_left_out_of_the_manifest_is_caught_by_flips(place):
    def without_environment(first_hashes):
        return lambda path: {name: found for name, found in first_hashes(path).items() if name != folder.ENVIRONMENT}

    kind = planted("rnn", (manifest, "first_hashes", without_environment))
    found = flips.flips_of(kind, place, every=50, only=folder.ENVIRONMENT)
    assert problems(found)
    # Some changes make another error, such as that of JSON.
    assert any("silent" in problem for problem in problems(found)), problems(found)[:5]
    assert all("environment.json" in problem for problem in problems(found)), problems(found)[:5]


def test_a_temporary_file_that_stays_is_caught_by_errors(place):
    def keep_parts(real):
        return lambda path, **kwargs: None if os.fspath(path).endswith(".part") else real(path, **kwargs)

    kind = planted("rnn", (os, "unlink", keep_parts))
    found = errors.errors_of(kind, place, errors.FAILURES[:1], every=4)
    assert any("left over" in problem and ".part" in problem for problem in problems(found))
