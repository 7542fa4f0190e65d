"""What an experiment requires of devices that are not here, from its compiled programs: `make accelerators`."""

import pytest

import seqjax as sj
import seqjax.memory
from seqjax.accelerators import target
from seqjax.errors import Error
from seqjax.samplers import Sequential

pytestmark = pytest.mark.slow
DATA = sj.Text("the cat sat on the mat, and the dog lay at the door. " * 5_000)


def experiment(hidden, rows):
    return sj.Experiment(
        dataset=DATA, model=sj.create("model", "gru", hidden=hidden), sampler=Sequential(batch_size=rows, num_steps=35)
    )


@pytest.fixture(params=["h100", "v5e", "v5e:2x2"])
def device(request):
    try:
        return target(request.param)
    except Error as missing:
        if "not installed" not in str(missing):
            raise
        pytest.skip(str(missing))


def test_temporaries_are_in_proportion_to_the_rows_of_a_device(device):
    few, many = (experiment(256, rows).requirements(device.name) for rows in (256, 1024))
    assert few.rows * few.num_devices == 256
    assert few.fits
    assert many.fits
    # Four times the rows; on a TPU a part of the temporaries does not depend on them.
    assert 2 < many.temporaries / few.temporaries < 4.5
    assert (few.launches is None) == (device.platform == "tpu")
    # The parameters, at least.
    assert few.arguments > 4 * 3 * 256**2


def test_the_memory_of_this_machine_is_no_limit(device, monkeypatch):
    monkeypatch.setattr(seqjax.memory, "memory_bytes", lambda: 1_000)
    with pytest.raises(Error, match=r"this machine has 0\.0 GB"):
        experiment(8, 64).run(progress=False)
    assert experiment(8, 64).requirements(device.name).fits


def test_about_as_many_rows_fit_as_are_said_to(device):
    large = experiment(4096, 4096).requirements(device.name)
    rows = large.rows_that_fit * large.num_devices // 64 * 64
    if large.fits:
        assert rows >= 4096
    else:
        assert large.launches is None
        assert experiment(4096, int(0.9 * rows) // 64 * 64).requirements(device.name).fits


def test_devices_that_do_not_divide_the_batch_are_refused(device):
    if len(device.devices) == 1:
        pytest.skip("one device divides all batches")
    with pytest.raises(Error, match="which do not divide batch_size = 6"):
        experiment(8, 6).requirements(device.name)
