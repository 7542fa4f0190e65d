"""Rows of somebody else: what they lack is named, and a loss that a repeated run does not have is found."""

import numpy as np
import pytest
from protocol.check_row import _first_difference, check_row
from protocol.compute import Settings
from protocol.problems import Question, problems_of
from protocol.stages import Stages, encode
from protocol.tasks import InfluenceBalancing
from protocol.training import BLOCKS

import seqjax
from seqjax.gradients import Full

SEEDS = 4
SETTINGS = Settings(rates=(0.001, 0.002), clips=(), optimizer="adam", seeds=tuple(range(SEEDS)))


@pytest.fixture
def row(tmp_path):
    """The stages of one problem, and the file of the runs of `full`, which is not there yet."""
    question = Question("covered", ("balance",), {"rnn": ("full",)}, updates=20)
    problems = problems_of(question, SETTINGS, {"balance": InfluenceBalancing(window=20)}, {"rnn": None})
    chosen = Stages(tmp_path, problems, {name: Full() for name in ("full", "frozen", "twin", "wrong-sign")})
    (stage,) = [each for each in chosen.all if (each.kind, each.strategies) == ("runs", ("full",))]
    return chosen, chosen.file(stage)


def runs(rate, loss, clip=1.0, clipped=0.0):
    return {"rate": rate, "clip": clip, "clipped": clipped, "blocks": [[loss] * BLOCKS] * SEEDS}


def result(*found, seeds=range(SEEDS), refused=None):
    return {"refused": refused, "seeds": list(seeds), "runs": list(found)}


# The higher rate is the better one, and so are both that the search adds above the grid.
SEARCHED = [runs(0.001, 0.5), runs(0.002, 0.4), runs(0.004, 0.3), runs(0.008, 0.2)]


@pytest.mark.parametrize(
    ("forged", "words"),
    [
        (result(), "it lacks runs, or a part of one: KeyError"),
        (result(*SEARCHED[:3]), "it lacks runs, or a part of one: KeyError"),
        (result(*SEARCHED[:1], *SEARCHED[2:]), "it lacks runs, or a part of one: KeyError"),
        (result(*SEARCHED, runs(0.1, 0.1)), "its runs are not those of 4 seeds with these rates and clips"),
        (result(*SEARCHED[:3], runs(0.008, 0.2, clipped=0.3)), "it lacks runs, or a part of one: KeyError"),
        (result(*SEARCHED, seeds=range(3)), "its seeds are 0, 1, 2, and not 0, 1, 2, 3"),
        (result(*SEARCHED[:3], runs(0.008, 0.2) | {"blocks": [[0.2] * BLOCKS] * 3}), "not those of 4 seeds"),
        (result(*SEARCHED[:3], {"rate": 0.008, "clip": 1.0}), "it lacks runs, or a part of one: KeyError 'blocks'"),
        (result(*SEARCHED[:3], 7), "it lacks runs, or a part of one: TypeError"),
        (result(refused="too slow"), "it does not say, as this machine does, that the strategy takes this problem"),
        ({"seeds": []}, "its seeds are , and not 0, 1, 2, 3"),
        ([1], "it does not say, as this machine does"),
        (None, "it is damaged, or was edited or renamed"),
    ],
)
def test_a_row_that_lacks_something_is_refused_with_the_reason(row, forged, words):
    chosen, file = row
    file.write_bytes(encode(file.name, forged, {}))
    with pytest.raises(seqjax.Error, match="Do not use it") as caught:
        check_row(chosen, file)
    assert words in str(caught.value)
    assert caught.value.exit_code == 4


def test_what_is_no_row_is_named(row, tmp_path):
    chosen, file = row
    with pytest.raises(seqjax.Error, match=f"--check: {file} cannot be read: No such file"):
        check_row(chosen, file)
    with pytest.raises(seqjax.Error, match="has no file runs-"):
        check_row(chosen, tmp_path)
    price = tmp_path / "price-balance.json"
    price.write_bytes(b"")
    with pytest.raises(seqjax.Error, match="has none of the runs of this command"):
        check_row(chosen, price)


def test_a_block_differs_if_rounding_does_not_explain_it():
    here = np.linspace(1, 0.5, BLOCKS)
    copies = here + np.array([[1], [-1], [0.5]]) * np.where(np.arange(BLOCKS) < 10, 0, 0.01)
    assert _first_difference(here, copies, here) is None
    assert _first_difference(here, copies, here + 0.0004) is None, "the rounding of another machine"
    late = np.where(np.arange(BLOCKS) == 15, 0.04, 0)
    assert _first_difference(here, copies, here + late) is None
    assert _first_difference(here, copies, here + 2 * late) == 15
    assert _first_difference(here, copies, here + 0.002) == 0
    missing = np.where(np.arange(BLOCKS) == 3, np.nan, here)
    assert _first_difference(here, copies, missing) == 3
    assert _first_difference(missing, copies, np.where(np.arange(BLOCKS) < 3, here, 7)) is None, "it diverged"
