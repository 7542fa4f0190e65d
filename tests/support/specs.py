"""Tests that run for each kind of inputs and targets."""

import pytest

from seqjax import Spec


def for_specs(tokens: Spec, values: Spec, covariates: Spec):
    """Runs a test for each spec. Values alone add little to covariates, so they are left to the long suite."""
    return pytest.mark.parametrize(
        "spec",
        [
            pytest.param(tokens, id="tokens"),
            pytest.param(values, marks=pytest.mark.slow, id="values"),
            pytest.param(covariates, id="covariates"),
        ],
    )
