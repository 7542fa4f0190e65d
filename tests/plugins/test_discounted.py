"""A constant edge weight, against brute force."""

import pytest
from support.checks import CUTS

import seqjax
from seqjax.testing.proofs.cases import T
from seqjax.testing.proofs.claims import check_window

pytestmark = pytest.mark.usefixtures("x64")


def discounted(discount):
    return seqjax.create("gradient", "discounted", discount=discount)


def test_every_step_multiplies_the_gradient():
    check_window(discounted(0.7), [0.7] * T, ["learned"])


def test_no_discount_is_full():
    check_window(discounted(1.0), None, ["foreign"])


def test_nothing_left_is_truncated_to_one_step():
    # The oracle does not cut at the first step. This concerns only a learned initial state, which "cell" does not have.
    check_window(discounted(0.0), CUTS[1], ["cell"])
