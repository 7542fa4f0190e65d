"""The programs that tests compile are counted in all workers, and too many of them end a session with an error."""

import shutil
import subprocess
import sys
from collections import Counter

import costs
import jax
import numpy as np
import pytest

TESTS = """
import jax
import numpy as np
import pytest

@pytest.mark.parametrize("size", range(1, {count} + 1))
def test_program(size):
    assert jax.jit(lambda a: a + 1)(np.zeros(size)).shape == (size,)
"""


def test_a_folder_with_too_many_programs_is_named():
    limits = {"tests/models": 10, "tests/runs": 5}
    assert costs.too_many(Counter({"tests/models": 10, "tests/runs": 1}), limits) == []
    (sentence,) = costs.too_many(Counter({"tests/models": 11, "tests/runs": 5}), limits)
    assert sentence.startswith("tests/models: the number of compiled programs is 11, and programs.toml allows 10; ")
    (sentence,) = costs.too_many(Counter({"tests/new": 1}), limits)
    assert sentence.startswith("tests/new: the number of compiled programs is 1, and programs.toml allows 0; ")


def test_a_compiled_program_is_counted():
    """If JAX gave its event another name, no limit would ever be reached."""
    before = costs.programs["tests"]
    jax.jit(lambda a: a - 17)(np.zeros(17))
    assert costs.programs["tests"] == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_fifty_programs_more_are_an_error(workers, tmp_path):
    shutil.copy(costs.__file__, tmp_path)
    (tmp_path / "programs.toml").write_text('"tests/models" = 10\n"tests" = 10\n')
    for folder, count in {"models": 60, "": 10}.items():
        (tmp_path / "tests" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / folder / "test_it.py").write_text(TESTS.format(count=count))

    def run(*paths: str) -> subprocess.CompletedProcess:
        options = [*("-p", "costs", "--limit-programs", "-n", workers), "--import-mode=importlib"]
        command = [sys.executable, "-m", "pytest", *options, *paths]
        return subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True)

    found = run("tests")
    assert found.returncode == 1, found.stdout
    assert "70 passed" in found.stdout
    assert "tests/models: the number of compiled programs is 60, and programs.toml allows 10; " in found.stdout
    assert "tests: the number" not in found.stdout
    assert run("tests/test_it.py").returncode == 0
