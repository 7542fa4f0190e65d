"""A dataset in a file is loaded once for the default samplers of many experiments."""

import numpy as np
import pytest

from seqjax import Experiment, create
from seqjax.datasets import NPY


def test_the_default_samplers_of_many_experiments_load_a_file_once(tmp_path, monkeypatch):
    loads, load, file = [], NPY.load, tmp_path / "data.npy"
    monkeypatch.setattr(NPY, "load", lambda self: (loads.append(self), load(self))[1])
    np.save(file, np.zeros(600))
    samplers = {Experiment(dataset=NPY(path=str(file)), seed=seed).sampler for seed in range(5)}
    assert len(loads) == 1
    assert [sampler.batch_size for sampler in samplers] == [2]
    np.save(file, np.zeros(50_000))
    assert Experiment(dataset=NPY(path=str(file))).sampler.batch_size == 32
    assert len(loads) == 2


@pytest.mark.parametrize("name", ["csv", "npy", "npz"])
def test_a_file_that_cannot_be_read_has_the_default_sampler(name):
    """Its error comes when it is loaded."""
    experiment = Experiment(dataset=create("dataset", name, path="gone"))
    assert experiment.sampler == create("sampler", "sequential", batch_size=32, num_steps=35)
