"""What the referee says of scores that are made up: each sentence follows from its verdict."""

from dataclasses import replace

import numpy as np
import pytest
from protocol.claims import claims
from protocol.conclusions import all_pairs, sentences
from protocol.scores import admitted, at_equal_cost, at_equal_updates, problem_of, score_after
from protocol.tables import mean_price, one_task, pairs, ranking, verdicts_by_task
from protocol.tasks import InfluenceBalancing
from protocol.training import BLOCKS
from support.scores import SEEDS, made_up, problem, runs


def test_the_strategies_are_listed_by_their_verdicts():
    text = sentences([problem("one", made_up(near=0.21, good=0.1)), problem("two", made_up(near=0.19, good=0.1))])
    lines = text.split("\n")
    assert lines[0] == "- These tasks count: one; two."
    assert lines[1] == "- With equally many updates, the lowest score is that of `good`: 0.100 (0.100 to 0.101)."
    assert lines[2] == "  - Better than `full`, by the mean difference of the scores: `good` -0.100 (-0.100 to -0.100)."
    assert lines[3] == (
        "  - Tied with `full`, by the mean difference of the scores (all intervals lie within ± 0.05): "
        "`near` 0.000 (0.000 to 0.000)."
    )
    assert (
        lines[4] == "  - Worse than `full`, by the mean difference of the scores: `immediate` 0.600 (0.600 to 0.600)."
    )
    assert lines[5].startswith("- With equally many core-seconds, the lowest score is that of `good`")


def test_ties_and_undecided_differences_are_said_if_full_is_the_best():
    noisy = runs(0.3)._replace(tuned=0.3 + 0.3 * (SEEDS % 2 * 2 - 1))
    text = sentences([problem("one", made_up(near=0.21) | {"noisy": noisy})])
    assert "With equally many updates, the lowest score is that of `full`" in text
    assert "(all intervals lie within ± 0.05): `near` 0.010 (0.010 to 0.010)." in text
    assert "Undecided against `full`, by the mean difference of the scores: `noisy` 0.100 (" in text


def test_a_strategy_of_ones_own_comes_first_with_its_verdicts_against_all_others():
    scores = made_up(near=0.21, mine=0.22)
    lines = sentences([problem("one", scores)], about=["mine"]).split("\n")
    assert lines[0].startswith(
        "- `mine` has the score 0.220 (0.220 to 0.221) with equally many updates, and the rank 3 (3"
    )
    assert lines[1:3] == [
        "  - Better than `immediate` -0.580 (-0.580 to -0.580).",
        "  - Tied with `full` 0.020 (0.020 to 0.020), `near` 0.010 (0.010 to 0.010).",
    ]
    problems = [problem("one", scores), problem("two", made_up(near=0.21))]
    assert sentences(problems, about=["mine"]).startswith("- `mine` does not take all tasks that count")


def test_too_few_seeds_are_said_to_be_too_few():
    """Of 5 seeds the lowest p value is 2 / 32, and of 10 it is 2 / 1,024, times the number of comparisons."""

    def with_seeds(count, tasks, **others):
        scores = {
            name: each._replace(tuned=each.tuned[:count], untuned=each.untuned[:count], blocks=each.blocks[:count])
            for name, each in made_up(**others).items()
        }
        return sentences([problem(f"task {n}", scores) for n in range(tasks)])

    few = with_seeds(5, 1, mine=0.3)
    assert (
        "**No difference from `full` on a single task can be significant**: with 5 seeds, the lowest p value of 2"
        in few
    )
    assert "comparisons is 0.12. More seeds are needed." in few
    assert (
        "between two strategies in the table of pairs can be significant**: with 5 seeds, the lowest p value of 3"
        in few
    )
    assert "can be significant" not in with_seeds(10, 1, mine=0.3)
    two = with_seeds(5, 2, mine=0.3)
    assert "on a single task can be significant" in two
    assert "over the tasks can be significant" not in two
    many = with_seeds(10, 1, **{f"mine {n}": 0.3 + n / 100 for n in range(9)})
    assert "the lowest p value of 55 comparisons is 0.11" in many
    assert many.count("can be significant") == 1


def test_runs_that_diverged_and_prices_that_were_disturbed_are_said():
    scores = made_up()
    scores["immediate"].blocks[2:5, 7] = np.inf
    disturbed = problem("one", scores)
    disturbed.measures["full"]["core_share"] = 0.6
    text = sentences([disturbed, problem("two", made_up())])
    assert "- Runs that diverged on one: 3 of `immediate`." in text
    assert "**The prices on one are not reliable**: other programs used the core 40 % of the time" in text
    assert "on two" not in text


def test_nothing_follows_from_tasks_that_do_not_count_and_controls_are_apart():
    lost = problem("lost", made_up(), status="not admitted: the interval of full is not below that of frozen")
    control = problem(
        "free", {"frozen": runs(1), "full": runs(0.1), "immediate": runs(0.1), "bad": runs(0.9)}, "control"
    )
    assert sentences([lost, control]).split("\n") == [
        "- **lost does not count**: the interval of full is not below that of frozen.",
        "- No task is admitted, so that nothing follows.",
        "- On the control free, 1 of 2 strategies tie with `full`; not tied: `bad` worse 0.800 (0.800 to 0.800).",
    ]
    assert admitted([lost, control]) == []


def test_a_strategy_that_does_not_take_all_tasks_has_no_rank():
    problems = [problem("one", made_up(mine=0.1)), problem("two", made_up())]
    assert list(at_equal_updates(problems)) == ["full", "immediate"]
    assert "mine" in {row[0] for row in verdicts_by_task(problems).rows}
    assert "mine" not in {row[0] for row in ranking(problems).rows}


@pytest.mark.parametrize(
    ("price", "expected", "blocks"), [(0.5, 0.3, 20), (1.0, 0.3, 20), (1.5, 0.3, 13), (2.0, 1.0, 10), (19.0, 1.0, 1)]
)
def test_a_dear_strategy_has_made_fewer_updates_at_equal_cost(price, expected, blocks):
    """Its score falls to .3 in block 10 of 20: at twice the price of `full` only the first ten are paid."""
    scores = made_up() | {"dear": runs(0.3, first_block=10)}
    problems = [problem("one", scores, prices={"dear": price})]
    assert problems[0].blocks_at_equal_cost("dear") == blocks
    assert at_equal_cost(problems)["dear"].mean() == pytest.approx(expected, abs=1e-3)
    assert at_equal_updates(problems)["dear"].mean() == pytest.approx(0.3, abs=1e-3)
    assert mean_price(problems, "dear") == pytest.approx(price)
    table = one_task(problems[0])
    row = dict(zip(table.columns, table.rows[-1], strict=True))
    assert row["updates (core-seconds) to a score of 0.5"] == f"55 ({55 * price:.2g})"


def test_a_score_at_equal_cost_that_no_block_measured_is_said_to_be_set():
    scores = made_up() | {"dear": runs(0.3)}
    problems = [problem("one", scores, prices={"dear": 21}), problem("two", scores, prices={"dear": 2})]
    assert at_equal_cost(problems)["dear"][0].tolist() == [1.0] * 10
    assert sentences(problems).endswith("pay less than a twentieth of a run: `dear` on 1 of 2 tasks.")
    assert one_task(problems[0]).rows[-1][9] == "1 (set)"


def test_the_score_after_some_blocks_is_the_median_of_their_last_fifth():
    blocks = np.array([[8.0, 4, 5, 3, 2, 0.9, 0.7, 0.8, 0.1, 0.3, *[0.2] * 10]])
    assert score_after(blocks, 0) == score_after(blocks, 1) == 1
    assert score_after(blocks, 6) == 0.9
    assert score_after(blocks, 10) == pytest.approx(0.2), "of .1 and .3"
    assert score_after(blocks, 20) == 0.2
    assert score_after(np.array([[0.5, np.inf] * 10]), 20) == 1


def test_the_price_over_tasks_is_a_geometric_mean():
    problems = [problem("one", made_up(), prices={"immediate": 2.0}), problem("two", made_up(), prices={"full": 2.0})]
    assert mean_price(problems, "immediate") == pytest.approx(1.0)


def test_a_pair_has_opposite_verdicts_in_its_two_orders():
    scores = at_equal_updates([problem("one", made_up(good=0.1, twin=0.1))])
    found = all_pairs(scores)
    assert len(found) == 12
    for (a, b), verdict in found.items():
        assert found[b, a].difference.value == -verdict.difference.value
        assert (found[b, a].difference.low, found[b, a].difference.high) == (
            -verdict.difference.high,
            -verdict.difference.low,
        )
    assert found["good", "full"].word == "better"
    assert found["full", "good"].word == "worse"
    assert found["good", "twin"].word == found["twin", "good"].word == "tie"
    assert pairs([problem("one", made_up(good=0.1, twin=0.1))]).rows[2][1:] == ("better", "better", "", "tie")


def test_a_task_that_was_not_learned_tests_no_claim():
    lost = problem("lost", made_up(rtrl=0.9, immediate=0.9, **{"sparse-rtrl:paths=2": 0.9}))
    free = problem("free", {name: runs(0.0) for name in ("frozen", "full", "immediate", "rtrl", "sparse-rtrl:paths=2")})
    words = [row[-1] for row in claims([lost, free]).rows]
    assert words == ["no test: nothing learned, or nothing to learn"] * 4


def test_two_paths_of_a_small_state_test_no_claim_about_6_percent():
    small = problem("small", made_up(rtrl=0.2, **{"sparse-rtrl:paths=2": 0.3}))._replace(state_size=16)
    assert claims([small]).rows[-1][-1] == "no test: 2 of 16 paths are more than 6 %"


@pytest.mark.parametrize(
    ("tails", "floor", "worse"),
    [
        ({"full": 0.5, "immediate": 0.8, "frozen": 1.0}, 0.0, ""),
        ({"full": 0.5, "immediate": 0.5, "frozen": 1.0}, 0.0, "immediate"),
        ({"full": 1.1, "immediate": 1.2, "frozen": 1.0}, 0.0, "frozen"),
        ({"full": 1.0, "immediate": 1.0, "frozen": 1.0}, 0.0, "frozen and immediate"),
        ({"full": 1.1, "immediate": 1.2, "frozen": 1.0}, None, "frozen"),
    ],
)
def test_a_task_counts_only_if_full_is_better_than_frozen_and_immediate(tails, floor, worse):
    results = {name: result_of(value + 0.001 * SEEDS) for name, value in tails.items()}
    found = judged(replace(InfluenceBalancing(), floor=floor), results)
    reason = f"not admitted: the interval of full is not below that of {worse}"
    assert found.status == (reason if worse else "admitted")
    if floor is None:
        assert all((each.tuned == 1).all() for each in found.runs.values()), "nobody learned anything"


def test_overlapping_intervals_are_not_enough_for_a_task():
    results = {"full": 0.5 + 0.1 * SEEDS, "immediate": 0.9 + 0.1 * SEEDS, "frozen": 2 + 0.01 * SEEDS}
    found = judged(InfluenceBalancing(), {name: result_of(losses) for name, losses in results.items()})
    assert found.losses["full"].value < found.losses["immediate"].value
    assert found.status == "not admitted: the interval of full is not below that of immediate"


def test_without_a_floor_the_loss_of_full_is_the_score_0():
    results = {
        name: result_of(np.full(10, loss)) for name, loss in {"full": 0.5, "immediate": 1.0, "frozen": 1.5}.items()
    }
    found = judged(replace(InfluenceBalancing(), floor=None), results)
    assert [found.runs[name].tuned[0] for name in ("full", "immediate", "frozen")] == pytest.approx([0, 0.5, 1])


def judged(task, results):
    return problem_of("task", task, results, measures={}, updates=100, state_size=1)


def result_of(tails):
    """What a stage with these losses has found."""
    losses = np.repeat(tails[:, None], BLOCKS, 1).tolist()
    return {
        "refused": None,
        "rate": 0.1,
        "tuning_seeds": [90],
        "seeds": [0],
        "tuning": [[0.1, losses]],
    } | dict.fromkeys(("tuned", "untuned"), losses)


@pytest.mark.parametrize(
    ("immediate", "sparse", "expected"),
    [(0.21, 0.3, ["reproduced", "reproduced"]), (0.4, 0.5, ["not reproduced", "not reproduced"])],
)
def test_a_claim_is_reproduced_if_its_interval_says_so(immediate, sparse, expected):
    """Recoveries of .8, then of .79 and .7 (.875 of it), or .6 and .5 (.625 of it)."""
    scores = made_up(immediate=immediate, rtrl=0.2, **{"sparse-rtrl:paths=2": sparse})
    assert [row[-1] for row in claims([problem("one", scores)]).rows] == expected
