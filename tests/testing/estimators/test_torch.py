"""Loops in PyTorch: what is said of right ones and of wrong ones. `make torch` installs PyTorch for these tests."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from support import loops

from seqjax import Error, Spec, Values
from seqjax.gradients import EProp, Truncated
from seqjax.models import RNN
from seqjax.testing import check_estimator

pytest.importorskip("torch", reason="PyTorch is not installed; `make torch` installs it for these tests")
from support import torch_loops

DOCUMENT = Path(__file__).parents[3] / "docs" / "check.md"
SCAN = loops.rnn_scan()
PROBLEM = RNN(hidden=3).problem(Spec(Values(2), Values(1)))
EXACT, SEGMENTS = {"claim": "exact", "scan": SCAN}, {"claim": "biased", "like": Truncated(steps=3), "scan": SCAN}
LOCAL = {"claim": "biased", "like": EProp(), "scan": PROBLEM}


@pytest.mark.parametrize(
    ("estimator", "claim"),
    [(torch_loops.rnn(), EXACT), (torch_loops.rnn(detach=True), SEGMENTS), (torch_loops.e_prop(), LOCAL)],
)
def test_right_ones_pass(estimator, claim):
    assert set(check_estimator(estimator, arrays="torch", **claim)["passed"]) == {"yes"}


@pytest.mark.parametrize(
    ("estimator", "claim", "said"),
    [
        (torch_loops.rnn("one late", detach=True), SEGMENTS, "The cause: the state is detached before step 5"),
        (torch_loops.rnn(), SEGMENTS, "The cause: it is the full gradient: nothing is detached"),
        (torch_loops.rnn("added up"), EXACT, "The cause: gradients are added to those of the calls before"),
        (torch_loops.e_prop("kept"), LOCAL, "The cause: of the Jacobian of the state only the diagonal is kept"),
        (torch_loops.rnn("inputs detached"), EXACT, "What is wrong: .*wrong from the first step"),
        (torch_loops.e_prop("after"), LOCAL, r"What is wrong: only \['layer_0'\]\['W_hh'\] is wrong"),
    ],
)
def test_what_is_said_of_wrong_ones(estimator, claim, said):
    with pytest.raises(Error) as found:
        check_estimator(estimator, arrays="torch", **claim)
    assert re.search(said, str(found.value))
    if "The cause" not in said:
        assert "The cause" not in str(found.value)


def test_the_example_of_the_document_prints_what_it_shows():
    code, shown = re.search(
        r"^```python pytorch\n(.*?)^```\n\n```text\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.M | re.S
    ).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, DOCUMENT.name, "exec"), {"__name__": "document"})
    assert shown in printed.getvalue()
