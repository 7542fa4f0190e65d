"""`check` and `seqjax check` for a gradient strategy: the table that they print, and the errors that they raise."""

import re
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import seqjax
from seqjax import WeightedEdges
from seqjax.cli import main
from seqjax.gradients import Full, Memory
from seqjax.testing import check
from seqjax.testing.checking import run_checks
from seqjax.testing.gradient import checks
from seqjax.testing.line import Check, Found, Line, failure, run_check

BROKEN = Path(__file__).parent / "broken" / "gradient.py"


@pytest.fixture
def strategy(monkeypatch, forget_local_plugins):
    """A function that runs `seqjax check` for a strategy of this file."""
    monkeypatch.setenv("PYTHONPATH", str(BROKEN.parents[2]))  # for another process, in which a check loads the file
    return lambda strategy: main(["check", "gradient", strategy, "--load", str(BROKEN)])


@pytest.mark.slow
def test_a_loaded_strategy_is_checked_with_its_fields(strategy, capsys):
    assert strategy("without-the-weight:weight=2.0") == 0
    out = capsys.readouterr().out
    assert out.startswith("gradient without-the-weight:weight=2.0\ncheck ")
    assert not re.findall(r"  (no|not made)  ", out)
    line = next(line for line in out.splitlines() if line.startswith("unbiased: window's gradient"))
    assert re.search(r" yes +\d\.\d+e-1\d +1\.000e-12  all outcomes, learned, foreign; a window of ", line)


@pytest.mark.slow
def test_a_failed_check_is_named_with_its_error_and_its_meaning(strategy, capsys):
    assert strategy("without-the-weight") == 2
    out, err = capsys.readouterr()
    assert re.findall(r"^(.+?)  +no  ", out, re.MULTILINE) == [
        "unbiased: window's gradient",
        "gradients of params, state, xs",
    ]
    assert re.search(r"gradient 'without-the-weight' fails 2 of \d+ checks:", err)
    assert re.search(r"learned, row 0, window 0, \.grads\['\w+'\]: worst relative error \d\.\de[+-]\d\d > 1e-12", err)
    assert "the mean is not the window's gradient: reweight what survives by 1/probability" in err


def test_what_several_checks_found_is_said_once():
    checks = [Check(name, Found, f"the meaning of {name}") for name in "abc"]
    lines = [Line(check, None, "", fault, "no") for check, fault in zip(checks, ["f", "g", "f"], strict=True)]
    assert failure(Full(), lines).problems == ("a, c: f", "b: g\nthe meaning of b")


def test_the_command_prints_the_table_before_the_error(strategy, capsys):
    """It fails the first check, after which no other is made."""
    assert strategy("one-weight-too-few") == 2
    out, err = capsys.readouterr()
    assert out.startswith("gradient one-weight-too-few\ncheck ")
    assert re.search(r"^shapes and dtypes +no ", out, re.MULTILINE)
    assert re.search(r"gradient 'one-weight-too-few' fails 1 of \d+ checks:", err)
    assert "returned float64[5] for a window of 6 steps, and must return" in err
    assert "training carries state and memory in a scan" in err


def test_a_wrong_field_is_answered(capsys):
    assert main(["check", "gradient", "truncated:stepz=3"]) == 2
    assert "stepz: Truncated has no such field; did you mean 'steps'" in capsys.readouterr().err


@dataclass(frozen=True)
class Plain(WeightedEdges):
    """A correct strategy, from which the wrong ones below are derived."""

    claim = "exact"

    def edge_weights(self, noise, memory, num_steps):
        return None, memory

    def estimate(self, *args):
        return self.change(super().estimate(*args))

    def change(self, e):
        return e


def changed(f):
    return type("Mine", (Plain,), {"change": lambda self, e: f(e)})()


def overridden(**methods):
    return type("Mine", (Plain,), methods)()


AUTHORS = {
    "no claim": (overridden(claim=None), r"gradient Mine: claim: the class does not declare it; write claim = one of"),
    "a claim of another name": (overridden(claim="exactly"), "says 'exactly'; write claim = one of"),
    "of something else": (overridden(of="weeks"), "gradient Mine: of: the class says 'weeks'; write of = one of"),
    "a loss a row": (changed(lambda e: e._replace(loss=jnp.ones(4))), r"loss is float64\[4\], not float64\[\]"),
    "gradients as a list": (
        changed(lambda e: e._replace(grads=jax.tree.leaves(e.grads))),
        "grads is .* and the parameters .*; return the tree of the parameters",
    ),
    "a state in single precision": (
        changed(lambda e: e._replace(state=jax.tree.map(lambda a: a.astype(jnp.float32), e.state))),
        r"state.* is float32\[4, 4\], and the state that went in float64\[4, 4\]; return the state as the step gives",
    ),
    "memory that is no Memory": (
        overridden(init=lambda *_: 0),
        r"init returns no Memory; return seqjax\.gradients\.Memory",
    ),
    "memory that grows": (
        changed(lambda e: e._replace(memory=Memory(rows=jnp.zeros((4, 2))))),
        "memory is .*, and the memory that went in .*; keep structure, shapes and dtypes",
    ),
    "an estimate that is a tuple": (
        changed(lambda e: tuple(e)),
        r"estimate returned tuple, and must return seqjax\.gradients\.Estimate\(loss, grads",
    ),
    "weights as a list": (
        overridden(edge_weights=lambda self, noise, memory, num_steps: [1.0] * num_steps),
        r"edge_weights returned list, and must return \(edge_weights",
    ),
    "an exception": (
        overridden(edge_weights=lambda self, noise, memory, num_steps: (jnp.ones(num_steps) @ jnp.ones(99), memory)),
        r"cell: raises TypeError: .*test_gradient.py, line \d+: ",
    ),
    "noise of another dtype than the outcomes": (
        overridden(
            draw=lambda self, key, problem, params, memory, n: jnp.zeros(n),
            outcomes=lambda self, problem, params, memory, n: (jnp.zeros((1, n), bool), jnp.ones(1)),
        ),
        r"draw is float64\[\d\], and the entry of outcomes bool\[\d\]; let outcomes stack what draw returns",
    ),
    "more probabilities than outcomes": (
        overridden(
            draw=lambda self, key, problem, params, memory, n: jnp.zeros(n),
            outcomes=lambda self, problem, params, memory, n: (jnp.zeros((1, n)), jnp.full(2, 0.5)),
        ),
        r"outcomes returns leaves of shapes .*; return noise \[M, ...\] and probability \[M\]",
    ),
}


def first_check(strategy):
    """`check` with the first check of its kind alone."""
    line = run_check(strategy, checks(strategy)[0])
    if line.fault:
        raise failure(strategy, [line])


@pytest.mark.parametrize(("fault", "check"), [*((fault, first_check) for fault in AUTHORS), ("a loss a row", check)])
def test_authors_are_told_what_to_change(fault, check):
    strategy, message = AUTHORS[fault]
    with pytest.raises(seqjax.Error, match=f"(?s){message}") as caught:
        check(strategy)
    assert caught.value.exit_code == 2


@dataclass(frozen=True)
class Choosy(Plain):
    """Takes only problems of models, or no problem at all."""

    models: bool = True

    def init(self, problem, params, state, x=None):
        if getattr(problem, "model", None) is None or not self.models:
            raise seqjax.Error("needs a model; use another strategy")
        return Memory()


@pytest.mark.slow
def test_refused_problems_are_listed_and_one_must_remain():
    lines = {line.check.name: line for line in run_checks(Choosy())}
    note = lines["shapes and dtypes"].note
    assert note == "cell, learned; not foreign, small, linear, ids, nothing: needs a model; use another strategy"
    assert {name for name, line in lines.items() if line.fault} == {"documented"}
    assert lines["state without floats"].note == "cannot be made on cell, learned"
    assert lines["rows are independent"].note == "learned, cell"
    assert lines["value_and_grad of a scan"].note == "cell"
    with pytest.raises(seqjax.Error, match="no problem is left to check: needs a model; use another strategy"):
        check(Choosy(models=False))
