"""Repeated runs: what is compared one by one, what on average alone, and what is drawn."""

import numpy as np
import pytest
from protocol import repeat
from protocol.repeat import COPIES, Comparison, compare
from protocol.scores import Contender
from protocol.training import BLOCKS, Trained

SEEDS, RATES = 10, (0.003, 0.004)
LOSSES = np.linspace(1, 0.5, BLOCKS)
ALIKE = np.repeat(LOSSES[None], COPIES, 0)
NONE = np.empty((0, BLOCKS))


def stored(blocks_SN, clipped=0.0, rate=0.003):
    runs = {"rate": rate, "clip": 1.0, "clipped": clipped, "blocks": blocks_SN}
    return {"seeds": list(range(SEEDS)), "runs": [runs]}


def trained(losses=LOSSES, clipped=0.0):
    """A run whose losses do not depend on anything."""
    return lambda *_: Trained(losses, clipped, None)


def chaotic(seed, rate, clip, feed):
    """A run that from the 11th block on depends on the last place of its rate, and so do its clipped updates."""
    rng = np.random.default_rng(int(rate * 2**60) + seed)
    factor = rng.lognormal(sigma=0.3)
    return Trained(np.where(np.arange(BLOCKS) < 10, LOSSES, factor * LOSSES), rng.uniform(), None)


def test_a_block_differs_if_rounding_does_not_explain_it():
    late = np.arange(BLOCKS) >= 10
    copies = LOSSES + np.array([[1], [-1], [0.5]]) * np.where(late, 0.0005, 0)
    whole = Comparison(None, BLOCKS)
    assert compare(LOSSES, NONE, LOSSES) == compare(LOSSES, copies, LOSSES) == whole
    assert compare(LOSSES, copies, LOSSES + 0.0004) == whole, "the rounding of another machine"
    assert compare(LOSSES, copies, LOSSES + 0.004 * late) == whole
    assert compare(LOSSES, copies, LOSSES + 0.008 * late).different == 10
    assert compare(LOSSES, copies, LOSSES + 0.002).different == 0
    assert compare(LOSSES, copies, np.where(np.arange(BLOCKS) == 3, np.nan, LOSSES)).different == 3


def test_blocks_after_rounding_has_become_large_are_not_compared_one_by_one():
    copies = ALIKE * np.where(np.arange(BLOCKS) == 10, 1.01, 1)
    assert compare(LOSSES, copies, LOSSES * np.where(np.arange(BLOCKS) < 10, 1, 0.1)) == (None, 10)
    assert compare(LOSSES, copies, LOSSES * np.where(np.arange(BLOCKS) < 9, 1, 0.1)) == (9, 10)


def test_a_run_that_diverges_here_diverges_in_the_file():
    here = np.where(np.arange(BLOCKS) < 10, LOSSES, np.nan)
    copies = np.repeat(here[None], COPIES, 0)
    assert compare(here, copies, here) == (None, BLOCKS)
    assert compare(here, copies, LOSSES) == (10, BLOCKS)
    assert compare(np.full(BLOCKS, np.nan), np.full((COPIES, BLOCKS), np.nan), LOSSES).different == 0
    # Only some of the copies diverge: rounding decides.
    assert compare(here, ALIKE, LOSSES) == compare(LOSSES, copies, here) == (None, 10)


@pytest.mark.parametrize(
    ("run", "lowered", "words"),
    [
        (trained(), 1.0, ""),
        (trained(), 0.95, "the rate 0.003 and the clip 1, the loss of block 1 of 20 is 1 here, and 0.95 there"),
        (chaotic, 1.0, ""),
        (trained(clipped=0.8), 1.0, "0.800 of the updates of 10 seeds are clipped, and the file says 0.000 for all"),
    ],
)
def test_runs_of_a_file_are_repeated(run, lowered, words):
    losses = [(lowered * run(seed, 0.003, 1.0, None).blocks).tolist() for seed in range(SEEDS)]
    clipped = 0.0 if run is not chaotic else np.mean([run(seed, 0.003, 1.0, None).clipped for seed in range(SEEDS)])
    found = repeat.repeat(run, lambda seed: None, range(SEEDS), stored(losses, clipped))
    assert words in found.wrong
    assert bool(words) == bool(found.wrong)
    assert found.num_chaotic == 0


def test_a_chaotic_run_in_a_file_is_compared_on_average():
    """The losses of the file are those of other runs, as another machine would have them."""
    losses = [chaotic(seed, 0.004, 1.0, None).blocks.tolist() for seed in range(SEEDS)]
    found = repeat.repeat(chaotic, lambda seed: None, range(SEEDS), stored(losses))
    assert found.wrong == ""
    assert found.num_chaotic == len(found.differences) == SEEDS
    assert np.min(found.differences) < 0 < np.max(found.differences)


def test_losses_of_chaotic_runs_that_count_are_not_hidden_by_those_of_others():
    """The runs of the best rate are better in the file from block 11 on, and all others worse."""
    runs = [
        stored([chaotic(seed, rate, 1.0, None).blocks for seed in range(SEEDS)], rate=rate)["runs"][0] for rate in RATES
    ]
    for each, factor in zip(runs, (0.1, 10.0), strict=True):
        each["blocks"] = [np.where(np.arange(BLOCKS) < 10, 1, factor) * blocks for blocks in each["blocks"]]
    found = repeat.repeat(chaotic, lambda seed: None, range(SEEDS), {"seeds": [*range(SEEDS)], "runs": runs})
    assert found.num_repeated == 2 * SEEDS
    assert len(found.differences) == SEEDS
    assert np.max(found.differences) < -0.5


def test_both_differences_of_a_chaotic_run_find_what_the_other_one_does_not():
    early, last = np.arange(BLOCKS) < 16, np.arange(BLOCKS) >= 16
    np.testing.assert_allclose(repeat._differences(np.where(early, 0.5, 1) * LOSSES, LOSSES, 10), (-0.3, 0))
    np.testing.assert_allclose(repeat._differences(np.where(last, 0.5, 1) * LOSSES, LOSSES, 10), (-0.2, -0.5))
    # A difference changes its sign if both runs are exchanged, also of negative losses and of runs that diverge.
    for other in (0.5 * LOSSES, -9 * LOSSES, np.full(BLOCKS, np.nan)):
        one = repeat._differences(other, LOSSES, 0)
        np.testing.assert_allclose(one, np.negative(repeat._differences(LOSSES, other, 0)))
        assert np.abs(one).min() >= 0.5
    assert repeat._differences(np.full(BLOCKS, np.nan), np.full(BLOCKS, np.nan), 0) == (0, 0)


def test_a_loss_that_overflows_is_one_that_diverges():
    here = np.where(np.arange(BLOCKS) < 10, LOSSES, np.inf)
    losses = np.where(np.isfinite(here), here, np.nan)
    found = repeat.repeat(trained(here), lambda seed: None, range(SEEDS), stored([losses] * SEEDS))
    assert (found.wrong, found.num_chaotic) == ("", 0)


def test_a_share_of_clipped_updates_that_the_other_seeds_cannot_explain_is_found():
    runs = stored([])["runs"][0]
    assert repeat._share_differs([0.2, 0.2], runs | {"clipped": 0.04}, SEEDS) == ""
    assert repeat._share_differs([0.2, 0.2], runs | {"clipped": 0.84}, SEEDS) == ""
    assert "0.200 of the updates of 2 seeds" in repeat._share_differs([0.2, 0.2], runs | {"clipped": 0.03}, SEEDS)
    assert "0.200 of the updates of 2 seeds" in repeat._share_differs([0.2, 0.2], runs | {"clipped": 0.85}, SEEDS)


def test_runs_that_count_with_any_budget_are_drawn_and_those_that_choose_them():
    """Candidate 0 is the best one of the first ten blocks, and candidate 1 of a whole run."""
    blocks = np.arange(BLOCKS) < 10
    losses = np.stack([np.where(blocks, low, high) for low, high in ((0.1, 0.9), (0.9, 0.1), (0.8, 0.8))])
    contender = Contender([None] * 3, np.repeat(losses[:, None], 6, 1))
    drawn = repeat._drawn(contender)
    assert len(set(drawn)) == len(drawn) == 16, "ten of the twelve that count, and all six of the other candidate"
    assert [n for n, _, counts in drawn if not counts] == [2] * 6
