"""What other libraries call the fields of an experiment."""

from inspect import signature

import pytest

import seqjax as sj
from seqjax.plugin import registry
from seqjax.plugin.base import fields_of
from seqjax.plugin.other_names import NO_FIELD, OF_RUN, OTHER_NAMES, field_meant
from seqjax.runs.settings import KINDS, Scalars


@pytest.mark.parametrize("field", OTHER_NAMES)
def test_the_fields_exist(field):
    """A field of an experiment, an argument of `generate`, or a field that plugins of the kind have."""
    kind, _, inner = field.rpartition(".")
    if not kind:
        assert field in {*fields_of(sj.Experiment), *signature(sj.generate).parameters}
        return
    classes = [registry.load(entry) for entry in registry.entries(kind)]
    assert any(inner in fields_of(cls) for cls in classes)


def test_no_name_has_two_meanings_or_is_a_field_of_an_experiment():
    others = [other for table in (OTHER_NAMES, OF_RUN, NO_FIELD) for names in table.values() for other in names]
    assert len(set(others)) == len(others)
    assert not {*others} & {*fields_of(Scalars), *KINDS}


def test_the_arguments_of_run_exist():
    assert {*OF_RUN} <= {*signature(sj.Experiment.run).parameters}


def test_a_field_is_meant_only_where_it_is():
    assert field_meant("lr", ["hidden", "layers"]) is None
    assert field_meant("something", ["epochs", "optimizer"]) is None
