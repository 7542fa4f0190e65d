"""Labels of variants: what is shared, and what differs."""

from types import SimpleNamespace

import seqjax as sj
from seqjax.gradients import Full, Truncated
from seqjax.models import RNN
from seqjax.optimizers import SGD
from seqjax.report.variant_labels import readable, shared_plugins, variant_labels
from seqjax.samplers import Sequential


def test_two_fields_are_two_factors():
    names = [
        f"{gradient}, optimizer.learning_rate={lr}" for gradient in ("full", "truncated:steps=5") for lr in (0.5, 1)
    ]
    found = variant_labels(names)
    assert found.shared == ()
    assert found.short == tuple(f"{a}, learning_rate={b}" for a in ("full", "truncated:steps=5") for b in (0.5, 1))
    assert found.factors == (
        ("full", "full", "truncated:steps=5", "truncated:steps=5"),
        ("learning_rate=0.5", "learning_rate=1") * 2,
    )


def test_what_all_share_is_left_out():
    found = variant_labels(["gradient=full, model=rnn hidden=8", "gradient=truncated steps=3, model=rnn hidden=8"])
    assert found == (("rnn, hidden 8",), ("full", "truncated steps=3"), None)
    assert variant_labels(["full"]) == (("full",), ("",), None)
    assert variant_labels([""]) == ((), ("",), None)


def test_names_of_the_user_stay_as_they_are():
    names = ("k=4", "my_k=a.b=c", "no.bias", "optimizer", "gru=x steps=3")
    assert variant_labels(names).short == names
    assert variant_labels(["full", "truncated, 10 steps"]).short == ("full", "truncated, 10 steps")
    assert variant_labels(["a (1, 2)", "a (1, 3)"]).short == ("a (1, 2)", "a (1, 3)")


def test_line_styles_are_for_the_factor_of_few_values():
    """The factor with more values than there are line styles is shown by colours."""
    styles = lambda names: set(variant_labels(names).factors[1])
    assert styles([f"{a}, {b}" for a in "xy" for b in "abcdefg"]) == {"x", "y"}
    names = [f"{a}, {b}, {c}" for a in "pqrst" for b in "xy" for c in "vw"]
    assert styles(names) == {"x, v", "x, w", "y, v", "y, w"}
    found = variant_labels([f"{a}, {b}" for a in "pqrst" for b in "abcdefg"])
    assert (found.factors, found.short[1]) == (None, "p, b"), "too many values are no factors"


def test_the_text_of_a_plugin():
    assert readable("artbp:length=8:alpha=3") == "artbp, length 8, alpha 3"
    assert readable("sgd learning_rate=0.5 clip_norm=1.0") == "sgd, lr 0.5, clip norm 1.0"
    assert readable("k1=10 k2=19") == "k1 10, k2 19"
    assert readable("csv inputs=('rain', 'temp') lags=(1, 2, 3) target=('flow',)") == (
        "csv, inputs rain and temp, lags 1, 2 and 3, target flow"
    )
    assert readable("f=(x) g=() h=(1, 2") == "f (x), g (), h (1, 2"


def test_the_plugins_that_all_experiments_share():
    text = sj.Text("so it goes. " * 9, source="goes.txt")
    first, second = (
        SimpleNamespace(
            dataset=text, model=RNN(hidden=8), gradient=gradient, optimizer=SGD(), sampler=Sequential(num_steps=9)
        )
        for gradient in (Full(), Truncated(steps=3))
    )
    windows = "windows of 9 steps"
    assert shared_plugins([first, second]) == ["goes.txt", "rnn, hidden 8", windows, "sgd"]
    assert shared_plugins([first]) == ["goes.txt", "rnn, hidden 8", "full", windows, "sgd"]
    second.sampler = Sequential(num_steps=8)
    assert shared_plugins([first, second]) == ["goes.txt", "rnn, hidden 8", "sgd"]
    first.optimizer = first.gradient = first.sampler = None
    assert shared_plugins([first]) == ["goes.txt", "rnn, hidden 8"]
