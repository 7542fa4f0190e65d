"""A dataset in a file is loaded once for the default samplers of many experiments."""

import numpy as np
import pytest

from seqjax import Experiment
from seqjax_datasets import CSV, NPY, NPZ


@pytest.mark.parametrize("cls", [CSV, NPY, NPZ])
def test_the_default_samplers_of_many_experiments_load_a_file_once(cls, tmp_path, monkeypatch):
    path = tmp_path / "data"
    values = np.random.default_rng(0).normal(size=(1, 200, 2))
    with path.open("wb") as file:
        if cls is CSV:
            np.savetxt(file, values[0], delimiter=",", header="a,b", comments="")
        elif cls is NPY:
            np.save(file, values)
        else:
            np.savez(file, inputs=values, targets=values)
    loads = []
    load = cls.load
    monkeypatch.setattr(cls, "load", lambda self: (loads.append(self), load(self))[1])
    samplers = {Experiment(dataset=cls(path=str(path)), seed=seed).sampler for seed in range(5)}
    assert len(loads) == 1
    assert len(samplers) == 1
    path.write_bytes(path.read_bytes() + b"\n")  # the file has changed
    Experiment(dataset=cls(path=str(path)))
    assert len(loads) == 2
