"""A sweep that the tests share. A test that changes it works on a copy."""

import shutil

import pytest
from support.quick import AXES, BASE, quick

from seqjax import sweep


@pytest.fixture(scope="package", autouse=True)
def small_chunks():
    with quick():
        yield


@pytest.fixture(scope="package")
def swept(small_chunks, tmp_path_factory):
    """The folder of a sweep, and its runs."""
    path = tmp_path_factory.mktemp("sweep") / "out"
    return path, sweep(BASE, AXES, path)


@pytest.fixture
def copied(swept, tmp_path):
    return shutil.copytree(swept[0], tmp_path / "copy")
