"""Runs that the tests share. A test that changes one gets a copy."""

import pytest
from support.crash import crash_after
from support.tiny import FULL, copy, small_chunks


@pytest.fixture(scope="package", autouse=True)
def small():
    """The chunks of all tests here."""
    with small_chunks():
        yield


@pytest.fixture(scope="package")
def whole(small, tmp_path_factory):
    """A run that was trained to its end."""
    return FULL.run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of its folder."""
    return copy(whole.path, tmp_path / "finished")


@pytest.fixture(scope="package")
def half(small, tmp_path_factory):
    """The folder of the same run, killed in its second epoch: two checkpoints, a row before them, and one after."""
    path = tmp_path_factory.mktemp("half") / "run"
    with pytest.MonkeyPatch.context() as patch, crash_after(patch, 4):
        FULL.run(path, checkpoint_seconds=0)
    return path


@pytest.fixture
def stopped(half, tmp_path):
    """A copy of that folder."""
    return copy(half, tmp_path / "stopped")
