"""`seqjax list`: all plugins, those of a kind, and one of them."""

import dataclasses

import pytest
from support.shell import call

from seqjax import __version__, names
from seqjax.plugin import registry
from seqjax.plugin.base import fields_of

KINDS = list(registry.GROUPS)


@pytest.mark.parametrize("kind", KINDS)
def test_list_has_a_line_for_each_plugin(kind):
    done = call("list", kind)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == kind
    for name in names(kind):
        if registry.find(kind, name).distribution != registry.BUILT_IN:  # that of another test
            continue
        (line,) = (line for line in lines if f"seqjax/{name} " in line)
        assert registry.summary(registry.find(kind, name)) in line
        assert f" {__version__} " in line
    assert "seqjax list KIND NAME" in done.stdout
    assert call("list", f"{kind}s").stdout == done.stdout


def test_a_verbose_list_says_that_nothing_is_wrong():
    done = call("list", "optimizer", "-v")
    assert (done.returncode, done.stderr) == (0, "")
    assert "seqjax_optimizers.adam:Adam, " in done.stdout
    assert "all plugins can be imported, and all names are unique" in done.stdout


def test_list_has_every_kind():
    headings = [line for line in call("list").stdout.splitlines()[:-2] if not line.startswith(" ")]
    assert headings == KINDS


SHOWN = [
    ("gradient", "randomized", "float in (0, 1] or a tuple of float in (0, 1]; default 0.9"),
    ("gradient", "kf-rtrl", "none"),
    ("optimizer", "seqjax/adam", "float > 0 or none; default none"),
    ("dataset", "text-file", "a string; required"),
    ("sampler", "sequential", "int >= 1; default 35"),
    ("model", "rnn", "int >= 1; default 256"),
    ("tracker", "tensorboard", "none"),
]


@pytest.mark.parametrize(("kind", "name", "words"), SHOWN)
def test_a_plugin_is_listed_with_its_docs_parameters_and_origin(kind, name, words):
    cls = registry.get(kind, name)
    entry = registry.entry_of(cls)
    done = call("list", kind, name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{kind} {entry.id}\n")
    for part in (words, entry.source, entry.target, f"seqjax {__version__}", *cls.__doc__.splitlines()):
        assert part.strip() in done.stdout
    for field in dataclasses.fields(cls):
        assert field.name.replace("_", "-") in done.stdout
        doc = fields_of(cls)[field.name].doc
        assert doc, f"{cls.__name__}.{field.name} has no docstring under it"
        assert " ".join(doc.split()) in " ".join(done.stdout.split())


LEVELS = {
    "an-bn": ["  floor   0.1540 nats, the lowest of a model", "  chance  0.8692 nats, of a constant prediction"],
    "adding": [
        "  floor   0.0000 squared error, the lowest of a model",
        "  chance  0.1667 squared error, of a constant prediction",
    ],
    "digits": ["  chance  2.3026 nats, of a constant prediction"],
    "text-file": [],  # which has a required field, so that there are no defaults
    "python-docs": [],
}


@pytest.mark.parametrize("name", LEVELS)
def test_a_dataset_is_listed_with_its_floor_and_its_chance_level_if_it_knows_them(name):
    listed = call("list", "dataset", name).stdout
    _, _, after = listed.partition("\nlosses at these defaults:\n")
    assert after.partition("\n\n")[0].splitlines() == LEVELS[name]
    assert call("list", "datasets", name).stdout == listed != ""
