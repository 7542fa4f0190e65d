"""What the referee says of losses that are made up: each sentence follows from its verdict."""

import numpy as np
import pytest
from protocol.conclusions import of_windows, sentences
from protocol.families import SECONDS, UPDATES, families, scores_at
from protocol.scores import cross_fitted, ratio
from protocol.tables import by_budget, pairs, ranking, tuning
from protocol.tables import runs as table_of_runs
from protocol.tasks import TASKS
from support.scores import SEEDS, made_up, problem, runs


def said(problems, about=()):
    """The lines of the answer to the first question, without its heading."""
    return sentences(problems, families(problems), about).split("\n")[2:]


def found(problems, name, budget=UPDATES):
    (one,) = [each for each in families(problems) if each.name == name and each.budget == budget]
    return one


def test_the_strategies_are_listed_by_their_verdicts():
    lines = said([problem("one", made_up(near=0.21, good=0.1)), problem("two", made_up(near=0.19, good=0.1))])
    assert lines[0] == "- With all updates, the lowest score is that of `good`: 0.100 (0.100 to 0.101) (2 problems)."
    assert lines[1] == "  - Better than `full`, by the mean difference of the scores: `good` -0.100 (-0.100 to -0.100)."
    assert lines[2] == (
        "  - Tied with `full`, by the mean difference of the scores (all intervals lie within ± 0.05): "
        "`near` 0.000 (0.000 to 0.000)."
    )
    assert (
        lines[3] == "  - Worse than `full`, by the mean difference of the scores: `immediate` 0.600 (0.600 to 0.600)."
    )
    assert lines[4].startswith("- With the core-seconds of `full`, the lowest score is that of `good`")


def test_undecided_differences_are_said():
    lines = said([problem("one", made_up(noisy=0.3 + 0.3 * (SEEDS // 2 % 2 * 2 - 1)))])
    assert any(line.startswith("  - Undecided against `full`") and "`noisy`" in line for line in lines)


def test_a_strategy_of_ones_own_comes_first_with_its_verdicts_against_all_others():
    contenders = made_up(near=0.21, mine=0.22)
    lines = said([problem("one", contenders)], about=["mine"])
    assert lines[0].startswith("- `mine` has the score 0.220 (0.220 to 0.221) with all updates, and the rank 3 (3")
    assert lines[1:3] == [
        "  - Better than `immediate` -0.580 (-0.580 to -0.580).",
        "  - Tied with `full` 0.020 (0.020 to 0.020), `near` 0.010 (0.010 to 0.010).",
    ]
    problems = [problem("one", contenders), problem("two", made_up(near=0.21))]
    assert said(problems, about=["mine"])[0].startswith("- `mine` does not take all problems that count")


def test_the_same_gradient_is_no_finding():
    """Rounding lets the runs differ in the end, by more than a tie allows."""
    full = runs(0.2)
    later = full.losses.copy()
    later[..., 10:] += 0.2
    contenders = made_up(full=full, again=full._replace(losses=later))
    verdict = found([problem("one", contenders)], "all problems").found["again", "full"]
    assert (verdict.word, verdict.difference.value) == ("same", pytest.approx(0.2, abs=1e-3))
    assert "Equal but for rounding to `full`" in "\n".join(said([problem("one", contenders)]))
    later[..., 0] *= 1.001
    assert found([problem("one", contenders)], "all problems").found["again", "full"].word == "worse"


def test_nothing_follows_from_problems_that_do_not_count():
    lost = problem("lost", made_up(immediate=0.2))
    beside = problem("beside", made_up(), task=TASKS["influence-balancing"])
    why = "**lost does not count**: the interval of full is not below that of immediate."
    assert said([lost, beside]) == [
        "- No problem counts, so that nothing follows.",
        f"  - {why}",
        "  - **beside does not count**: it stands beside the others.",
    ]
    assert [each.name for each in families([lost, beside])] == ["on beside"]


@pytest.mark.parametrize(
    ("immediate", "frozen", "worse"), [(0.8, 1.0, ""), (0.2, 1.0, "immediate"), (0.3, 0.2, "frozen and immediate")]
)
def test_a_problem_counts_only_if_full_is_better_than_frozen_and_immediate(immediate, frozen, worse):
    status = problem("one", made_up(immediate=immediate, frozen=frozen)).status
    assert status == (f"not admitted: the interval of full is not below that of {worse}" if worse else "counts")


def test_overlapping_intervals_are_not_enough():
    losses = {"full": 0.5 + 0.1 * SEEDS, "immediate": 0.7 + 0.1 * SEEDS, "frozen": 2 + 0.01 * SEEDS}
    assert problem("one", made_up(**losses)).status.endswith("not below that of immediate")


@pytest.mark.parametrize(
    ("price", "expected", "blocks"), [(0.5, 0.3, 20), (1.0, 0.3, 20), (1.5, 0.3, 13), (2.0, 1.0, 10), (21.0, 1.0, 0)]
)
def test_a_dear_strategy_has_made_fewer_updates_at_equal_cost(price, expected, blocks):
    """Its score falls to .3 in block 10 of 20: at twice the price of `full` only the first ten are paid."""
    problems = [problem("one", made_up(dear=runs(0.3, first_block=10)), prices={"dear": price})]
    assert problems[0].blocks_for("dear", 1) == blocks
    assert scores_at(SECONDS, problems)["dear"].mean() == pytest.approx(expected, abs=1e-3)
    assert scores_at(UPDATES, problems)["dear"].mean() == pytest.approx(0.3, abs=1e-3)
    assert ratio(problems, "dear", "full", "seconds") == pytest.approx(price)
    table = table_of_runs(problems, [], 0.003)
    row = dict(zip(table.columns, table.rows[-1], strict=True))
    assert float(row["core-seconds to a score of 0.5"]) == pytest.approx(0.55 * 100 * price, rel=0.05)
    assert (row["score after the core-seconds of full"] == "1 (set)") == (blocks == 0)
    budgets = dict(zip(by_budget(problems).columns, by_budget(problems).rows[-1], strict=True))
    assert budgets["after 20 times"] == "0.300"


def test_each_seed_has_what_is_best_for_the_other_half():
    """Seeds 0 and 2 have their lowest mean at the second candidate, seeds 1 and 3 at the first one."""
    assert cross_fitted(np.array([[9.0, 1, 8, 2], [3, 5, 4, np.inf]])).tolist() == [0, 1, 0, 1]


def test_rates_are_chosen_by_budget():
    """The high rate is better at first, and the low one in the end."""
    fast, slow = runs(0.5), runs(0.2, first_block=10)
    both = fast._replace(
        candidates=[*fast.candidates, *slow.candidates], losses=np.concatenate([fast.losses, slow.losses])
    )
    for price, score in ((1.0, 0.2), (2.0, 0.5)):
        one = problem("one", made_up(mine=both), prices={"mine": price})
        assert scores_at(SECONDS, [one])["mine"].mean() == pytest.approx(score, abs=1e-3)


def test_ranks_without_one_task():
    problems = [problem(name, made_up(mine=score)) for name, score in (("one", 0.1), ("two", 0.1), ("three", 0.45))]
    table = ranking(found(problems, "all problems"), found(problems, "all problems", SECONDS))
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["mine"]["rank without one task"] == "1 to 2"
    assert rows["full"]["rank without one task"] == "1 to 2"


def test_a_pair_has_opposite_words_in_its_two_orders():
    rows = {row[0]: row[1:] for row in pairs(found([problem("one", made_up(good=0.1))], "pairs")).rows}
    assert rows["full"] == ("", "better", "worse")
    assert rows["good"] == ("better", "better", "")


def test_how_often_no_tuning_would_have_been_better():
    """With the rate .003 of the made-up runs, and one that is better for one half of the seeds alone."""
    lucky = runs(np.where(SEEDS % 2, 0.9, 0.1))
    other = runs(np.where(SEEDS % 2, 0.1, 0.9))
    other.candidates[0] = other.candidates[0]._replace(rate=0.001)
    both = lucky._replace(
        candidates=lucky.candidates + other.candidates, losses=np.concatenate([lucky.losses, other.losses])
    )
    assert both.tuned().tolist() == [0.9] * 10, "what is chosen on one half is counted on the other"
    one = problem("one", made_up(mine=both))
    assert tuning([one], 0.003) == (
        "In 1 of 3 cases the rate 0.003 without tuning has a lower mean score than the rate that was chosen, by "
        "0.400 at most."
    )


def stream(name, model="rnn", **scores):
    """A problem with windows of 1 and 16 steps."""
    given = {"frozen @ 1": 1.0, "frozen @ 16": 1.0, "full @ 1": 0.9, "full @ 16": 0.2, "twin @ 16": 0.2}
    given |= {"wrong-sign @ 16": 1.0} | {name.replace("_", " @ "): score for name, score in scores.items()}
    return problem(name, {each: runs(score) for each, score in given.items()}, windows=(1, 16), model=model)


def test_windows_are_compared_with_full_of_the_same_length_and_side_by_side():
    problems = [stream("one", rtrl_1=0.1, rtrl_16=0.2), stream("two", model="gru", rtrl_1=0.1, rtrl_16=0.2)]
    words = {
        each.name: {pair: verdict.word for pair, verdict in each.found.items()}
        for each in families(problems)
        if each.budget == UPDATES
    }
    assert words["windows of 1, all networks"] == {("rtrl @ 1", "full @ 1"): "better"}
    assert words["windows of 16, gru"] == {("rtrl @ 16", "full @ 16"): "same"}
    assert words["all windows, rnn"] == {
        ("full @ 1", "full @ 16"): "worse",
        ("rtrl @ 1", "full @ 16"): "better",
        ("rtrl @ 16", "full @ 16"): "same",
    }
    text = "\n".join(said(problems, about=["rtrl"]))
    assert text.startswith(
        "- `rtrl` and `full` with the same windows:\n"
        "  - windows of 1, all networks: better than it, -0.800 (-0.800 to -0.800).\n"
        "  - windows of 16, all networks: equal but for rounding to it, 0.000 (0.000 to 0.000).\n"
    )
    best = "- rnn: With all updates, the lowest score is that of `rtrl @ 1`: 0.100 (0.100 to 0.101), better than"
    assert f"{best} `full @ 16` with the difference -0.100 (-0.100 to -0.100). No contender with fewer bytes" in text
    assert (
        "- With the core-seconds of `full @ 16`, the lowest score is for rnn that of `rtrl @ 1`: 0.100 (0.100 to"
        in text
    )
    details = of_windows(families(problems)).split("\n")
    assert details[0].startswith("- With windows of 1 step, for all networks, the score of `full` is 0.900")
    assert details[1].startswith("  - Better than `full @ 1`, by the mean difference of the scores: `rtrl @ 1` -0.800")
    assert "- rnn: With all updates, against `full @ 16`:" in details


@pytest.mark.parametrize(
    ("carried", "words"),
    [
        (
            {"full @ 16": 400, "rtrl @ 1": 300, "rtrl @ 16": 200},
            "Of those that are better than `full @ 16` or tied with it, `rtrl @ 1` needs the fewest bytes, 0.75 times "
            "those of `full @ 16`, with the difference of the scores -0.100 (-0.100 to -0.100).",
        ),
        (
            {"full @ 16": 100, "rtrl @ 1": 300, "full @ 1": 50},
            "No contender with fewer bytes than `full @ 16` is better than it or tied with it.",
        ),
    ],
)
def test_the_fewest_bytes_of_those_that_are_as_good_as_full(carried, words):
    """`full @ 1` has few bytes, and `rtrl @ 16` as well, and both are worse than `full @ 16`."""
    one = stream("one", rtrl_1=0.1, rtrl_16=0.4)
    for name, size in carried.items():
        one.prices[name]["carried"] = size
    assert any(line.startswith("- rnn: With all updates") and line.endswith(words) for line in said([one]))
