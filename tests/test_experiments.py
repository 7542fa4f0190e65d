"""Every experiment runs at a tiny size, and has the results that do not depend on its size."""

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest

import seqjax

ROOT = Path(__file__).parents[1]
OF_THE_REFEREE = {ROOT / "experiments" / f"{name}.py" for name in ("referee", "drift")}
"""They have tests in tests/experiments."""
SCRIPTS = sorted({*(ROOT / "experiments").glob("*.py")} - OF_THE_REFEREE)
TEXT = seqjax.Text("so it goes, and on it goes. " * 700)
TINY = {
    "add_task": {"epochs": 1, "seeds": 1, "hidden": 4, "num_steps": 3000},
    "adding": {"num_steps": 12, "gap": 3, "num_sequences": 150, "hidden": 4, "epochs": 1, "seeds": 1},
    "bptt_numbers": {},
    "certificate": {"dataset": TEXT, "epochs": 2, "hidden": 4, "num_steps": 8, "windows": 2},
    "char_rnn": {"dataset": TEXT, "epochs": 2, "hidden": 8, "seeds": 1, "prompt": "so "},
    "concise": {"dataset": TEXT, "epochs": 2, "hidden": 8, "seeds": 1},
    "copy_task": {"epochs": 1, "seeds": 1, "hidden": 4, "num_steps": 4000},
    "immediate": {"dataset": TEXT, "epochs": 1, "seeds": 1, "hidden": 4},
    "influence_balancing": {"updates": 20},
    "linear_forecast": {"epochs": 1, "seeds": 1, "num_steps": 400},
    "learning_online": {
        "train": 0.02,
        "seeds": 1,
        "hidden": 4,
        "epochs": 1,
        "draws": 1,
        "num_steps": 4,
        "windows": (1,),
        "rates": (0.001,),
        "updates": 20,
    },
    "linear_recurrence": {"dataset": TEXT, "train": 0.05, "seeds": 1, "hidden": 4, "epochs": 1, "text_epochs": 1},
    "markov_chain": {"num_steps": 20_000, "epochs": 1, "seeds": 1},
    "ngram_baselines": {"dataset": TEXT, "epochs": 1, "hidden": 8, "seeds": 1, "max_order": 1},
    "ngrams": {"dataset": TEXT, "max_order": 1, "vocab_size": 260, "prompt": "so "},
    "noisy_sine": {"epochs": 1, "seeds": 2},
    "online_estimators": {"seeds": 1, "updates": 20},
    "other_texts": {"dataset": TEXT, "epochs": 1, "hidden": 8, "seeds": 1, "prompt": "so "},
    "sampler_coverage": {"epochs": 3},
    "selective_copying": {"blanks": 4, "tokens": 2, "hidden": 4, "layers": 1, "updates": 4, "seeds": 1},
    "simulator": {"neurons": 2, "lag_neurons": 1, "num_steps": 30},
    "simulator_fit": {"neurons": 2, "num_steps": 30, "updates": 2},
    "stocks": {"epochs": 1, "seeds": 1, "hidden": 4},
    "text_statistics": {"characters": TEXT, "lines": TEXT},
    "truncation": {"dataset": TEXT, "epochs": 1, "seeds": 1, "hidden": 4, "draws": 3, "max_lag": 3, "segments": (1,)},
    "vanishing": {"hidden": 4, "max_lag": 5, "num_steps": 10, "seeds": 2},
    "variants": {"dataset": TEXT, "epochs": 1, "hidden": 8, "seeds": 1},
}
"""The options of a tiny run."""


def load(name):
    script = next(script for script in SCRIPTS if script.stem == name)
    spec = importlib.util.spec_from_file_location(name, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_script_has_a_tiny_size():
    assert [script.stem for script in SCRIPTS] == sorted(TINY)


# The texts of the tests are so short that those for evaluation have tokens that the training text lacks.
@pytest.mark.filterwarnings("ignore:.*is unknown to the vocabulary")
@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_runs(name, tmp_path):
    module = load(name)
    report = module.main(**TINY[name])
    text = str(report)
    assert module.__doc__.partition("   ")[0] in text
    # A strategy without a variance has no signal-to-noise ratio; other results are numbers.
    assert "nan" not in text.replace("nan  nan", "")
    report.save(tmp_path)
    drawn = {".png", ".svg"} if report.figures else set()
    assert {path.suffix for path in tmp_path.iterdir()} - {".csv"} == {".json", ".md"} | drawn


@pytest.mark.slow
def test_the_figures_of_the_stocks_have_their_units(tmp_path):
    load("stocks").main(**TINY["stocks"]).save(tmp_path)
    for form, unit in (("returns", "log return a month"), ("prices", "index points")):
        text = (tmp_path / f"{form}.svg").read_text()
        assert f">{unit}</text>" in text
        assert ">month</text>" in text


def test_the_targets_of_selective_copying_are_the_tokens_in_their_order():
    pairs = load("selective_copying").draw(50, blanks=6, tokens=3, seed=0)
    inputs, targets, mask = (a.reshape(50, 12) for a in (pairs.inputs, pairs.targets, pairs.mask))
    for row, target, scored in zip(inputs, targets, mask, strict=True):
        assert row[9:].tolist() == [5] * 3
        assert [x for x in row[:9] if x] == target[9:].tolist()
        assert np.flatnonzero(scored).tolist() == [9, 10, 11]
    assert len({tuple(np.flatnonzero(row[:9])) for row in inputs}) > 20


EXACT = {
    "bptt_numbers": {},
    "linear_forecast": {"epochs": 1, "seeds": 1, "num_steps": 400},
    "ngrams": {"max_order": 0},
    "sampler_coverage": {},
    "text_statistics": {},
}
"""The scripts whose exact results do not depend on the size, with the options of the smallest one."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("linear_forecast", "ngrams"))) for name in EXACT]
)
def test_exact_results_are_as_expected(name, time_machine_file):
    results = load(name).main(**EXACT[name]).results
    exact = [row for row in (dict(zip(results.columns, row, strict=True)) for row in results.rows) if is_exact(row)]
    assert len(exact) >= 3
    assert [row["what"] for row in exact if row["met"] != "yes"] == []


def is_exact(row):
    """Whether a text is expected, or a number with a small tolerance."""
    if isinstance(row["expected"], str) or row["expected"] is None:
        return row["expected"] is not None
    return row["high"] - row["low"] <= 2e-4 * max(abs(row["expected"]), 1)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_committed_pages_show_the_docstring(script):
    """The words of a page are those of the scripts, whatever was run."""
    report = seqjax.Report(script)
    assert f"\n#{report.to_markdown()}" in (ROOT / "docs" / "chapter.md").read_text("utf-8")
    table = (ROOT / "experiments" / "README.md").read_text("utf-8").replace("\\_", "_")
    assert f"\n| {report.title} | {report.command} | " in table


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_composes(script):
    """It has no training loop, loss, metric or plot of its own; and what it imports exists."""
    imported = {
        name.name.partition(".")[0] if isinstance(node, ast.Import) else node.module.partition(".")[0]
        for node in ast.walk(ast.parse(script.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert {name for name in imported if not name.startswith("seqjax")} <= {"numpy", "jax", "dataclasses"}
    load(script.stem)
