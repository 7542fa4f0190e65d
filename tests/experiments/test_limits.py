"""What the referee says of the limits of its answers, for losses that are made up."""

import dataclasses

import numpy as np
from protocol.families import families
from protocol.limits import few_seeds, planned, remarks, warnings
from protocol.problems import CONTROLS
from support.scores import made_up, problem, runs

from seqjax.datasets import Add, TimeMachine


def test_the_controls_and_the_resolution_are_said():
    """Rounding moves one problem by .08, and the other one by as much to the other side, so that their mean ties."""
    up, down = (problem(name, made_up(twin=0.2 + sign * 0.08)) for name, sign in (("one", 1), ("two", -1)))
    assert remarks([up, down], families([up, down])) == (
        "- Controls over 2 problems: `twin`, which differs from `full` in the last place of its gradient, is tied with "
        "`full`, 0.000 (0.000 to 0.000), and `wrong-sign` is worse than it, 0.800 (0.800 to 0.800). By rounding alone, "
        "the score of a run changes by 0.080 (root mean square), and the mean over the seeds of one problem by 0.080 "
        "at most."
    )
    wrong = problem("one", made_up(**{"twin": 0.5, "wrong-sign": 0.1}))
    text = warnings([wrong], families([wrong]))
    assert text.startswith("- **A control does not have the verdict that it must have**. Controls over 1 problem: ")
    assert "is worse than `full`, 0.300" in text
    assert "`wrong-sign` is better than it, -0.100" in text


def test_too_few_seeds_are_said_to_be_too_few():
    """With 4 seeds of one problem the lowest p value is 2 / 16, and with 6 it is 2 / 64, for each comparison."""
    contenders = {name: each._replace(losses=each.losses[:, :4]) for name, each in made_up(mine=0.3).items()}
    one, two = (problem(name, contenders) for name in ("one", "two"))
    # On one problem 2 comparisons with `full`; over both of them 8 differences, and a family of 3 pairs.
    assert warnings([one, two], families([one, two])) == (
        "- **With 4 seeds no difference can be significant in these families**: on one, on two (7 seeds are needed)."
    )
    assert few_seeds([("one", 1, 1), ("two", 1, 3)], 6) == [
        "**With 6 seeds no difference can be significant in these families**: two (7 seeds are needed)."
    ]
    assert few_seeds([("pairs", 5, 1001), ("two", 1, 3)], 6) == [
        "**With 6 seeds no difference can be significant in these families**: two (7 seeds are needed); pairs (no "
        "number of seeds is enough for so many comparisons)."
    ]
    assert few_seeds([("two", 2, 3)], 4) == few_seeds([("one", 1, 2)], 7) == []
    strategies = (*CONTROLS, "full", "immediate", "mine")
    both = [dataclasses.replace(each.problem, strategies=strategies) for each in (one, two)]
    sizes = [("on one", 1, 2), ("all problems", 2, 2), ("pairs", 2, 3), ("on two", 1, 2)]
    assert planned(both, {}) == sizes
    tuned = [dataclasses.replace(each, strategies=(*strategies[:-1], "mine:a=1", "mine:a=2")) for each in both]
    assert planned(tuned, {"mine": ["mine:a=1", "mine:a=2"]}) == sizes


def test_prices_that_were_disturbed_and_equal_data_are_said_before_the_answers():
    disturbed, quiet = problem("one", made_up()), problem("two", made_up())
    disturbed.prices["full"]["core_share"] = 0.6
    text = warnings([disturbed, quiet], families([disturbed, quiet]))
    assert text.startswith("- **The prices on these problems are not reliable**")
    assert "for a part of the time: one (40 %). Delete" in text
    quiet.problem.task.dataset = TimeMachine()
    assert "**All seeds read the same data** on two" in warnings([quiet], [])
    quiet.problem.task.dataset = Add()
    assert warnings([quiet], []) == ""


def test_a_floor_above_a_loss_is_too_high():
    low = problem("one", made_up(good=-0.1))
    assert (
        low.status == "not admitted: the floor is too high: it is 0, and the loss of good is -0.100 (-0.100 to -0.099)"
    )
    assert warnings([low], []) == f"- **one does not count**: {low.status.removeprefix('not admitted: ')}."
    assert problem("one", made_up(good=-0.03)).status == "counts", "the loss of a sample of data"


def test_what_limits_the_answers_is_said():
    contenders = made_up(edge=runs(0.3))
    contenders["immediate"].losses[0, 2:5, 7] = np.inf
    contenders["edge"].candidates[0] = contenders["edge"].candidates[0]._replace(is_edge=True)
    text = remarks([problem("one", contenders, prices={"edge": 21.0}), problem("two", made_up())], [])
    assert "- Some runs diverged:\n  - `immediate`: one." in text
    assert "- The best rate is the last one that was tried:\n  - `edge`: one." in text
    assert "pay less than a twentieth of a run, and the score is set to 1:\n  - `edge`: one." in text
    assert "two" not in text
