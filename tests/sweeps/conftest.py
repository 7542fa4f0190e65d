"""A sweep that the tests share. A test that changes it works on a copy."""

import shutil

import pytest
from support.quick import AXES, BASE, quick

from seqjax import sweep


# For each module: a folder without `__init__.py` is no package, so that a wider scope would last for all other tests.
@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    with quick():
        yield


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """The folder of a sweep, and its runs."""
    path = tmp_path_factory.mktemp("sweep") / "out"
    with quick():
        return path, sweep(BASE, AXES, path)


@pytest.fixture
def copied(swept, tmp_path):
    return shutil.copytree(swept[0], tmp_path / "copy")
