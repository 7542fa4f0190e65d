"""Every experiment runs, at tiny size."""

import importlib.util
from pathlib import Path

import pytest

import seqjax

SCRIPTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))
TINY = {"char_rnn": {"corpus": seqjax.Text("so it goes, and on it goes. " * 600), "epochs": 2, "hidden": 8}}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs(script):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.main(**TINY[script.stem])
    assert set(found) == set(module.EXPECTED)
    assert all(value > 1 for value in found.values())
