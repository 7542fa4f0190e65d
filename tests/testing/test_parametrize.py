"""`parametrize_checks` makes a test of each check; one that is expected to fail must fail."""

from dataclasses import dataclass

import optax
import pytest

from seqjax import Error, Optimizer, Text
from seqjax.optimizers import SGD
from seqjax.testing import parametrize_checks
from seqjax.testing.checking import checks_of


@dataclass(frozen=True)
class Hides(Optimizer):
    """Its learning rate cannot be read."""

    learning_rate: float = 0.1

    def build(self, num_updates):
        return optax.sgd(self.learning_rate)


def cases(*args, **kwargs):
    """The parameters of the tests, by their ids."""
    mark = parametrize_checks(*args, **kwargs).mark
    assert mark.name == "parametrize"
    name, parameters = mark.args
    assert name == "check"
    return {parameter.id: parameter for parameter in parameters}


def test_there_is_a_test_for_each_check_of_each_plugin():
    found = cases([SGD(), SGD(learning_rate=0.5)])
    names = [check.name for check in checks_of(SGD())]
    assert list(found) == [
        f"optimizer {plugin}: {name}" for plugin in ("sgd", "sgd learning_rate=0.5") for name in names
    ]
    assert not any(parameter.marks for parameter in found.values())
    found["optimizer sgd: equal instances"].values[0]()


def test_a_check_that_fails_or_cannot_be_made_ends_its_test():
    found = cases([Hides()])
    with pytest.raises(Error, match=r"optimizer 'Hides' fails 1 of 1 checks:\n  learning rate: "):
        found["optimizer Hides: learning rate"].values[0]()
    with pytest.raises(pytest.skip.Exception, match="it has no field clip_norm"):
        found["optimizer Hides: clip_norm"].values[0]()


def test_an_expected_failure_is_strict_and_must_name_a_check():
    found = cases([Hides()], expected_failures={"learning rate": "plain optax"})
    ((mark,),) = (parameter.marks for parameter in found.values() if parameter.marks)
    assert (mark.name, mark.kwargs) == ("xfail", {"reason": "plain optax", "strict": True})
    with pytest.raises(Error, match="no check is called 'learning-rate'; did you mean 'learning rate'"):
        cases([Hides()], expected_failures={"learning-rate": ""})


@pytest.mark.parametrize("value", [SGD, Text("ab")])
def test_only_plugins_are_taken(value):
    with pytest.raises(Error, match="check takes an instance of a plugin"):
        parametrize_checks([value])
