"""`seqjax show`."""

import dataclasses
import tomllib

import pytest
from support.shell import call

from seqjax import __version__
from seqjax.plugin import registry

SHOWN = [
    ("gradient", "randomized", "float in (0, 1] or a tuple of float in (0, 1]; default 0.9"),
    ("gradient", "kf-rtrl", "none"),
    ("optimizer", "seqjax/adam", "float > 0 or none; default none"),
    ("dataset", "text-file", "a string; required"),
    ("sampler", "sequential", "int >= 1; default 35"),
    ("model", "rnn", "int >= 1; default 256"),
]


@pytest.mark.parametrize(("kind", "name", "words"), SHOWN)
def test_show_prints_docs_parameters_and_origin(kind, name, words):
    cls = registry.get(kind, name)
    entry = registry.entry_of(cls)
    done = call("show", kind, name)
    assert (done.returncode, done.stderr) == (0, "")
    head, _, snippet = done.stdout.partition("in a config file:")
    assert head.startswith(f"{kind} {entry.id}\n")
    for part in (words, entry.source, entry.target, f"seqjax {__version__}", *cls.__doc__.splitlines()):
        assert part.strip() in head
    fields = [f.name for f in dataclasses.fields(cls)]
    for f in fields:
        assert f.replace("_", "-") in head
        assert " ".join(registry_doc(cls, f).split()) in " ".join(head.split())
    table = tomllib.loads(snippet)[kind]
    assert table.pop("plugin") == entry.id
    if name != "text-file":  # which has no default
        made = registry.get(kind, name)()
        assert table == {f: getattr(made, f) for f in fields if getattr(made, f) is not None}


def registry_doc(cls, name):
    from seqjax.plugin.base import fields_of

    doc = fields_of(cls)[name].doc
    assert doc, f"{cls.__name__}.{name} has no docstring under it"
    return doc


@pytest.mark.parametrize(("kind", "name"), [("tracker", "tensorboard"), ("launcher", "local")])
def test_show_says_that_no_config_names_a_tracker_or_a_launcher(kind, name):
    shown = call("show", kind, name).stdout
    assert shown.endswith(f"\nno config names it; on the command line: --{kind} {name}\n")
    assert "in a config file" not in shown


LEVELS = {
    "an-bn": ["  floor   0.1540 nats, the lowest of a model", "  chance  0.8692 nats, of a constant prediction"],
    "adding": [
        "  floor   0.0000 squared error, the lowest of a model",
        "  chance  0.1667 squared error, of a constant prediction",
    ],
    "digits": ["  chance  2.3026 nats, of a constant prediction"],
}


@pytest.mark.parametrize("name", LEVELS)
def test_show_prints_the_floor_and_the_chance_level_of_a_dataset_that_knows_them(name):
    shown = call("show", "dataset", name).stdout
    _, _, after = shown.partition("\nlosses at these defaults:\n")
    assert after.partition("\n\n")[0].splitlines() == LEVELS[name]
    assert call("show", "datasets", name).stdout == shown


@pytest.mark.parametrize(("kind", "name"), [("dataset", "text-file"), ("dataset", "python-docs"), ("model", "rnn")])
def test_show_prints_no_losses_of_a_plugin_that_knows_none(kind, name):
    """A text file has a required field, so that there are no defaults."""
    done = call("show", kind, name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "losses" not in done.stdout


def test_the_kind_may_be_left_out_if_only_one_has_the_name(monkeypatch):
    assert call("show", "gru").stdout == call("show", "models", "gru").stdout != ""
    entries = [registry.find("model", "gru"), registry.find("gradient", "full")]
    monkeypatch.setattr(registry, "named", lambda name: entries)
    assert call("show", "x").stderr.endswith("name the kind:\n  seqjax show model x\n  seqjax show gradient x\n")
