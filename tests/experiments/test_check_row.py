"""Rows of somebody else: what they lack is named, and a loss that a repeated run does not have is found."""

import numpy as np
import pytest
from protocol.check_row import _check_averages, check_row
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


MISSING = "the runs with the rate {} and the clip 1 are left out"
FORM = "the share of the updates that were clipped, and 20 losses for each of 4 seeds"
LAST = SEARCHED[3]


@pytest.mark.parametrize(
    ("forged", "words"),
    [
        (result(), MISSING.format(0.001)),
        (result(*SEARCHED[:3]), MISSING.format(0.008)),
        (result(*SEARCHED[:1], *SEARCHED[2:]), MISSING.format(0.002)),
        (result(*SEARCHED, runs(0.1, 0.1)), "that do not belong to it: with the rate 0.1 and the clip 1"),
        (result(*SEARCHED, LAST), "that do not belong to it: with the rate 0.008 and the clip 1"),
        (result(*SEARCHED[:3], runs(0.008, "0.2")), FORM),
        (result(*SEARCHED[:3], LAST | {"clipped": 0.3}), "the runs with the rate 0.001 and no clip are left out"),
        (result(*SEARCHED, seeds=range(3)), "its seeds are not 0, 1, 2, 3"),
        (result(*SEARCHED) | {"seeds": 5}, "its seeds are not 0, 1, 2, 3"),
        (result(*SEARCHED) | {"runs": None}, FORM),
        (result(*SEARCHED[:3], LAST | {"blocks": LAST["blocks"][:3]}), FORM),
        (result(*SEARCHED[:3], LAST | {"blocks": None}), FORM),
        (result(*SEARCHED[:3], LAST | {"clipped": -3.0}), FORM),
        (result(*SEARCHED[:3], LAST | {"clipped": [0.0, 0.0]}), FORM),
        (result(*SEARCHED[:3], {"rate": 0.008, "clip": 1.0}), FORM),
        (result(*SEARCHED[:3], 7), FORM),
        (result(refused="too slow"), "here the strategy takes this problem, and the file says something else"),
        ({"seeds": [], "runs": []}, "and the file says something else"),
        ([1], "and the file says something else"),
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
    with pytest.raises(seqjax.Error, match="is no result of this command"):
        check_row(chosen, price)


def test_losses_that_are_lower_on_average_are_found():
    """If all of ten differences are negative, the p value is 2 of 1,024, and twice this if two are tested."""
    lower = [-0.1 - 0.01 * n for n in range(10)]
    mixed = [each * (-1) ** n for n, each in enumerate(lower)]

    def pairs(all_blocks, tails):
        return list(zip(all_blocks, tails, strict=True))

    _check_averages({"one": pairs(mixed, mixed), "two": [(0.0, 0.0)] * 10, "refused": []})
    _check_averages({"one": pairs(np.negative(lower), np.negative(lower))})
    _check_averages({"one": pairs(lower, lower)[:5]})
    for sample in (pairs(lower, mixed), pairs(mixed, lower)):
        with pytest.raises(seqjax.Error, match=r"the row: .* 10 repeated runs.* 14 % lower .*p = 0.0039"):
            _check_averages({"one": sample})
    many = pairs(mixed * 3, mixed * 3)
    with pytest.raises(seqjax.Error, match=r"two: the losses of 10 repeated runs"):
        _check_averages({"one": many, "two": pairs(lower, lower), "three": many})
