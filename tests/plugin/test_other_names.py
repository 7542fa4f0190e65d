"""What other libraries call the fields of an experiment."""

from seqjax.plugin import registry
from seqjax.plugin.base import fields_of
from seqjax.plugin.other_names import OTHER_NAMES, field_meant
from seqjax.runs.settings import KINDS, Scalars


def test_each_name_means_a_field_that_exists_and_is_none_itself():
    for name, field in OTHER_NAMES.items():
        kind, _, inner = field.rpartition(".")
        classes = [registry.load(entry) for entry in registry.entries(kind)] if kind else [Scalars]
        assert field == "out" or any(inner in fields_of(cls) for cls in classes), name
    assert not {*OTHER_NAMES} & {*fields_of(Scalars), *KINDS}


def test_a_field_is_meant_only_where_it_is():
    assert field_meant("lr", ["hidden", "layers"]) is None
    assert field_meant("something", ["epochs", "optimizer"]) is None
