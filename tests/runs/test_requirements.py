"""What an experiment requires of a device: the numbers; tests/accelerators compiles for devices."""

import pytest

import seqjax as sj
from seqjax.models import NGram
from seqjax.runs.requirements import OUT_OF_MEMORY, Requirements


def test_what_fits_and_how_many_rows_would():
    fitting = Requirements("h100", 1, memory=1_000, rows=8, arguments=200, temporaries=800, launches=3)
    assert fitting.fits
    assert fitting.rows_that_fit == 8
    too_large = fitting._replace(temporaries=1_600, launches=None)
    assert not too_large.fits
    assert too_large.rows_that_fit == 4
    assert too_large._replace(arguments=1_001).rows_that_fit == 0


def test_the_bytes_are_read_from_the_message_of_a_compiler():
    message = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (63.72G) exceeds available HBM (15.75G)."
    )
    assert OUT_OF_MEMORY.search(message).groups() == ("63.72", "G")


@pytest.mark.parametrize(
    ("target", "model", "message"),
    [
        ("a100", None, "there are h100, v5e, and slices of v5e: 2x2, 2x4,"),
        ("v5e:2", None, "there are h100, v5e"),
        ("h100", NGram(order=2), "count-based"),
    ],
)
def test_wrong_requests_say_what_there_is(target, model, message):
    fields = {} if model is None else {"model": model}
    with pytest.raises(sj.Error, match=message):
        sj.Experiment(dataset=sj.Text("abc" * 2_000), **fields).requirements(target)
