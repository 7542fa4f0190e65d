"""What other libraries call the fields of an experiment."""

import dataclasses

import pytest

import seqjax as sj
from seqjax.plugin import registry
from seqjax.plugin.base import fields_of
from seqjax.plugin.other_names import OTHER_NAMES, field_meant
from seqjax.runs.settings import KINDS, Scalars
from seqjax_models import RNN
from seqjax_optimizers import SGD


@pytest.mark.parametrize("field", OTHER_NAMES)
def test_the_fields_exist(field):
    """A field of an experiment, a kind, or a field that most plugins of the kind have."""
    kind, _, inner = field.rpartition(".")
    if not kind:
        assert field in fields_of(Scalars) or field in KINDS
        return
    classes = [registry.load(entry) for entry in registry.entries(kind)]
    assert any(inner in fields_of(cls) for cls in classes)


def test_no_name_has_two_meanings_or_is_a_field_of_an_experiment():
    others = [other for names in OTHER_NAMES.values() for other in names]
    assert len(set(others)) == len(others)
    assert not {*others} & {*fields_of(Scalars), *KINDS}


def test_a_field_is_meant_only_where_it_is():
    assert field_meant("lr", ["epochs", "optimizer"]) == "optimizer.learning_rate"
    assert field_meant("lr", ["learning_rate", "optimizer"]) == "learning_rate"
    assert field_meant("LR", ["learning_rate"]) == "learning_rate"
    assert field_meant("lr", ["hidden", "layers"]) is None
    assert field_meant("num-epochs", ["epochs"]) == "epochs"
    assert field_meant("something", ["epochs", "optimizer"]) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sj.Experiment(lr=0.1), "lr: Experiment has no such field; did you mean 'optimizer.learning_rate'?"),
        (lambda: RNN(hidden_size=8), "hidden_size: RNN has no such field; did you mean 'hidden'?"),
        (lambda: SGD(learning_rat=0.1), "learning_rat: SGD has no such field; did you mean 'learning_rate'?"),
        (lambda: sj.create("optimizer", "sgd", lr=0.1), "did you mean 'learning_rate'?"),
        (lambda: dataclasses.replace(RNN(), units=8), "units: RNN has no such field; did you mean 'hidden'?"),
        (lambda: sj.sweep(sj.Experiment(), {"lr": [1.0]}), "no field 'lr'; did you mean 'optimizer.learning_rate'?"),
        (lambda: sj.sweep(sj.Experiment(), {"optimizer.lr": [1.0]}), "no field 'lr'; did you mean 'learning_rate'?"),
        (lambda: sj.Experiment.from_toml("lr = 0.1"), "did you mean 'optimizer.learning_rate'?"),
        (lambda: sj.Experiment.from_toml("[sampler]\nseq_len = 8"), "did you mean 'num_steps'?"),
    ],
)
def test_python_and_toml_say_which_field_is_meant(make, words):
    with pytest.raises(sj.Error) as caught:
        make()
    assert words in str(caught.value)
