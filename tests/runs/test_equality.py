"""`equality`: equal runs are equal to the bit, and the first difference of others is named."""

import dataclasses

import jax
import numpy as np
from support.tiny import FULL

from seqjax import Run
from seqjax.runs.equality import EQUAL, arrays_differ, equality, metrics_differ

ROWS = [{"epoch": epoch, "loss": 2.0 / epoch, "grad_norm": np.nan, "seconds": 0.1} for epoch in (1, 2, 3)]


def with_row(epoch, **values):
    return [row | values if row["epoch"] == epoch else row for row in ROWS]


def test_the_first_difference_of_metrics():
    assert metrics_differ(ROWS, with_row(2, seconds=9.0, tokens_per_second=3.0, compile_seconds=1.0)) == ""
    assert metrics_differ(ROWS, with_row(2, loss=1.5)) == "metrics differ from epoch 2 on (loss 1.0 and 1.5)"
    assert metrics_differ(ROWS, with_row(3, grad_norm=0.0)) == "metrics differ from epoch 3 on (grad_norm nan and 0.0)"
    assert metrics_differ(with_row(1, x=1.0), ROWS) == "metrics differ from epoch 1 on (x 1.0 and nothing)"
    zeros = (with_row(1, loss=zero) for zero in (0.0, -0.0))
    assert metrics_differ(*zeros) == "metrics differ from epoch 1 on (loss 0.0 and -0.0)"
    assert metrics_differ(ROWS[:1], ROWS) == "metrics have 1 epoch and 3 epochs"
    assert metrics_differ([], []) == ""


def test_the_first_difference_of_arrays():
    a = {"b": np.float32([0, np.nan, np.inf]), "w": np.int32([1, 2])}

    def differ(**other):
        return arrays_differ("parameters", a, a | other)

    assert differ(b=a["b"].copy()) == ""
    assert differ(b=np.float32([-0.0, np.nan, np.inf])) == "parameters differ in 1 of 2 arrays, first in b"
    assert differ(b=-a["b"], w=np.int32([1, 3])) == "parameters differ in 2 of 2 arrays, first in b"
    assert differ(w=np.int32([[1, 2]])).endswith(" in 1 of 2 arrays, first in w (int32[2] and int32[1, 2])")
    assert differ(w=np.int32([1, 2]).view(np.float32)).endswith(" first in w (int32[2] and float32[2])")
    assert differ(z=a["b"]).endswith(" in 1 of 3 arrays, first in z (nothing and float32[3])")
    assert arrays_differ("parameters", a, {"b": a["b"]}).endswith(" first in w (int32[2] and nothing)")


def test_a_run_equals_the_run_of_its_config_in_another_folder_and_no_other_run(whole, stopped, tmp_path):
    """The second one was killed, and is resumed. The parameters of the best epoch count as well."""
    again = FULL.run(stopped)
    assert equality(whole, again) == equality(Run.open(whole.path), Run.open(again.path)) == EQUAL
    shorter = dataclasses.replace(FULL, epochs=1).run(tmp_path / "shorter")
    found = "not equal: metrics have 2 epochs and 1 epoch; parameters differ in 5 of 5 arrays"
    assert equality(whole, shorter).startswith(found)
    again.kept_best = jax.tree.map(lambda array: np.asarray(array) + 1, again.kept_best)
    assert equality(whole, again) == "not equal: parameters of the best epoch differ in 5 of 5 arrays, first in W_hq"
