"""Runs that the tests share. A test that changes one gets a copy."""

import pytest
from support.crash import crash_after
from support.tiny import FULL, copy, small_chunks


# For each module: a folder without `__init__.py` is no package, so that a wider scope would last for all other tests.
@pytest.fixture(scope="module", autouse=True)
def small():
    """The chunks of all tests here."""
    with small_chunks():
        yield


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A run that was trained to its end."""
    with small_chunks():
        return FULL.run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of its folder."""
    return copy(whole.path, tmp_path / "finished")


@pytest.fixture(scope="session")
def half(tmp_path_factory):
    """The folder of the same run, killed in its second epoch: two checkpoints, a row before them, and one after."""
    path = tmp_path_factory.mktemp("half") / "run"
    with small_chunks(), pytest.MonkeyPatch.context() as patch, crash_after(patch, 4):
        FULL.run(path, checkpoint_seconds=0)
    return path


@pytest.fixture
def stopped(half, tmp_path):
    """A copy of that folder."""
    return copy(half, tmp_path / "stopped")
