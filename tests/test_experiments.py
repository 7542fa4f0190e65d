"""Every experiment runs, at tiny size, and states what it should print."""

import ast
import importlib.util
from pathlib import Path

import pytest

import seqjax

SCRIPTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))
TEXT = seqjax.Text("so it goes, and on it goes. " * 700)
TINY = {
    "add_task": {"epochs": 1, "seeds": 1, "hidden": 4, "num_steps": 3000},
    "bptt_numbers": {},
    "char_rnn": {"dataset": TEXT, "epochs": 2, "hidden": 8, "seeds": 1, "prompt": "so "},
    "concise": {"dataset": TEXT, "epochs": 2, "hidden": 8, "seeds": 1},
    "copy_task": {"epochs": 1, "seeds": 1, "hidden": 4, "num_steps": 4000},
    "elsewhere": {"dataset": TEXT, "epochs": 1, "hidden": 8, "seeds": 1, "prompt": "so "},
    "in_context": {"dataset": TEXT, "epochs": 1, "hidden": 8, "seeds": 1, "max_order": 1},
    "influence_balancing": {"updates": 20},
    "linear_forecast": {"epochs": 1, "seeds": 1, "num_steps": 400},
    "markov_chain": {"num_steps": 20_000, "epochs": 1, "seeds": 1},
    "sampler_coverage": {"epochs": 3},
    "text_statistics": {"characters": TEXT, "lines": TEXT},
    "variants": {"dataset": TEXT, "epochs": 1, "hidden": 8, "seeds": 1},
    "vanishing": {"hidden": 4, "max_lag": 5, "num_steps": 10, "seeds": 2},
    "ngrams": {"dataset": TEXT, "max_order": 1, "vocab_size": 260, "prompt": "so "},
    "noisy_sine": {"epochs": 1, "seeds": 2},
    "online_estimators": {"seeds": 1, "updates": 20},
    "stocks": {"epochs": 1, "seeds": 1, "hidden": 4},
    "truncation": {"dataset": TEXT, "epochs": 1, "seeds": 1, "hidden": 4, "draws": 3, "max_lag": 3, "segments": (1,)},
}


def load(script):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs(script, tmp_path):
    module = load(script)
    report = module.main(**TINY[script.stem])
    text = str(report)
    assert module.__doc__.partition("   ")[0] in text
    assert "nan" not in text.replace("nan  nan", ""), "a figure is missing"
    report.save(tmp_path)
    drawn = {".png", ".svg"} if report.figures else set()
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".md"} | drawn


def test_the_figures_of_the_stocks_have_their_units(tmp_path):
    module = load(next(script for script in SCRIPTS if script.stem == "stocks"))
    module.main(**TINY["stocks"]).save(tmp_path)
    for form, unit in (("returns", "log return a month"), ("prices", "index points")):
        text = (tmp_path / f"{form}.svg").read_text()
        assert f"<!-- {unit} -->" in text
        assert "<!-- month -->" in text


EXACT = {
    "bptt_numbers": {},
    "linear_forecast": {"epochs": 1, "seeds": 1, "num_steps": 400},
    "ngrams": {"max_order": 1, "vocab_size": 260},
    "sampler_coverage": {},
    "text_statistics": {},
}
"""Those whose expected numbers hold at any size, and the least size."""


@pytest.mark.parametrize("name", EXACT)
def test_exact_numbers_are_met(name, time_machine_file):
    rows = load(next(script for script in SCRIPTS if script.stem == name)).main(**EXACT[name]).rows
    exact = [row for row in rows.rows if row[5].startswith("=")]
    assert len(exact) >= 3
    assert [row for row in exact if row[6] != "yes"] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_is_short_and_composes(script):
    """Under 60 lines, with no training loop, loss, metric or plot of its own."""
    source = script.read_text("utf-8")
    assert len(source.splitlines()) < 60
    imported = {
        name.name.partition(".")[0] if isinstance(node, ast.Import) else node.module.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert {name for name in imported if not name.startswith("seqjax")} <= {"numpy", "jax", "dataclasses"}
