"""The fields of plugins: types, ranges, conversion, docs."""

import dataclasses
import importlib.util
import pickle
import sys
from dataclasses import dataclass, field
from typing import Annotated, Literal, final

import jax
import numpy as np
import optax
import pytest
from annotated_types import Gt, Interval
from flax import nnx

from seqjax import Error, Experiment, Optimizer, create
from seqjax.plugin import Plugin
from seqjax.plugin.base import fields_of, members, type_in_words
from seqjax.testing.quick_jit import quick_jit

Share = Annotated[float, Interval(gt=0, le=1)]


class Part(Plugin):
    """A kind of plugin, which is not a dataclass, as `Model` and `Sampler` are not."""

    kind = "model"


@dataclass(frozen=True)
class Small(Part):
    size: int = 1


@dataclass(frozen=True)
class Big(Small):
    more: float = 2


@dataclass(frozen=True)
class Whole(Plugin):
    ratio: float = 0.5
    """How much."""
    count: Annotated[int, Interval(ge=1)] = 1
    """How many.

    Over several lines, and
    paragraphs.
    """
    flag: bool = False
    word: str = ""
    choice: Literal["a", "b"] = "a"
    size: Annotated[int, Interval(ge=2)] | Share = 0.9
    limit: Share | None = None
    shares: Share | tuple[Share, ...] = 1.0
    pair: tuple[int, str] = (0, "")
    grid: tuple[tuple[int, ...], ...] = ()
    part: Part = Small()
    spare: Part | None = None


def on_device(number):
    """The number in an array of JAX."""
    return jax.device_put(np.float32(number) if isinstance(number, float) else np.int32(number))


KEPT = {
    "ratio": [(1, 1.0), (np.float32(0.5), 0.5), (np.int64(3), 3.0), (on_device(0.25), 0.25)],
    "count": [(np.int64(3), 3), (np.array(3), 3), (on_device(3), 3), (2**62, 2**62)],
    "flag": [(np.bool_(True), True)],
    "word": [(np.str_("ü"), "ü")],
    "choice": [("b", "b")],
    "size": [(2, 2), (1.0, 1.0)],
    "limit": [(None, None), (1, 1.0)],
    "shares": [(1, 1.0), ([1, 0.5], (1.0, 0.5)), ((np.float32(0.5), on_device(1)), (0.5, 1.0))],
    "pair": [([1, "x"], (1, "x"))],
    "grid": [([[1, 2], []], ((1, 2), ()))],
    "spare": [(None, None)],
}
"""Field -> what it is given and what it keeps."""


@pytest.mark.parametrize("name", KEPT)
def test_value_is_kept_as_the_fields_type(name):
    for value, kept in KEPT[name]:
        found = getattr(Whole(**{name: value}), name)
        assert found == kept
        assert type(found) is type(kept)
        assert hash(Whole(**{name: value})) == hash(Whole(**{name: kept}))


@pytest.mark.parametrize(
    ("name", "value"),
    [  # In a field that takes an int or a share, such as `size`, 1 is an int out of range, and not the share 1.0.
        *(("ratio", value) for value in ("0.5", True, np.bool_(True), None, 1j, np.ones(1), [1.0])),
        *(("count", value) for value in (3.0, np.float64(3), on_device(3.0), True, "3", 0, None)),
        *(("flag", value) for value in (1, 0, "true", None)),
        *(("word", value) for value in (1, b"a", None)),
        *(("choice", value) for value in ("c", "A", None, 1)),
        *(("size", value) for value in (0, 1, 0.0, 1.5, True, "2", None, float("nan"))),
        *(("limit", value) for value in (0, 1.5, float("nan"), float("inf"), "none", False)),
        *(("shares", value) for value in ((0.5, 2), ("0.5",), (True,), {0.5}, "ab", [[0.5]], None)),
        *(("pair", value) for value in ((1,), (1, "x", 2), ("x", 1), 1)),
        *(("grid", value) for value in ([1], [[True]], [["1"]])),
        *(("part", value) for value in (None, Small, {"size": 1}, "small", Whole())),
        *(("spare", value) for value in (Small, "none", 0)),
    ],
)
def test_another_type_or_range_is_refused(name, value):
    with pytest.raises(Error, match=f"^Whole cannot be made:\n  {name} = ") as caught:
        Whole(**{name: value})
    assert len(caught.value.problems) == 1
    assert fields_of(Whole)[name].type in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("field", "value", "advice"),
    [
        ("model", nnx.eval_shape(lambda: nnx.GRUCell(3, 3, rngs=nnx.Rngs(0))), r"from_flax\(module\) and from_equinox"),
        ("model", "gru", r"create\('model', 'gru'\)"),
        ("dataset", "some text", r"Text\(text\)"),
        ("dataset", np.ones((3, 2)), r"Series\(values\), Pairs\(inputs, targets\)"),
        ("optimizer", optax.adam, r"optax\.adam\(0\.001\)"),
    ],
)
def test_what_is_no_plugin_is_refused_with_what_makes_one(field, value, advice):
    with pytest.raises(Error, match=f"{field} = (.|\n)*: must be .*, such as .*{advice}"):
        Experiment(**{field: value})


def test_errors_of_all_fields_are_reported_at_once():
    with pytest.raises(Error) as caught:
        Whole(ratio="x", count=0, flag=1, choice="c", part="p")
    assert [problem.split(" = ")[0] for problem in caught.value.problems] == [
        *("ratio", "count", "flag", "choice", "part")
    ]


def test_traced_values_pass():
    def use(x):
        plugin = Whole(ratio=x, limit=2 * x, size=x, shares=(x, 0.5))  # a traced 2 x cannot be compared with (0, 1]
        return plugin.ratio + plugin.limit + plugin.size + plugin.shares[0]

    np.testing.assert_array_equal(quick_jit(jax.vmap(use))(np.arange(3, dtype=np.float32)), 5 * np.arange(3))
    assert float(quick_jit(jax.grad(use))(1.0)) == 5


@dataclass(frozen=True)
class Holder(Plugin):
    """The type of its field is a class that is itself a dataclass."""

    part: Small = Small()
    spare: Small | None = None


@pytest.mark.parametrize("cls", [Whole, Holder])
def test_a_subclass_in_a_plugin_field_is_kept_as_it_is(cls):
    big = Big(size=3, more=4)
    for made in (cls(part=big, spare=big), dataclasses.replace(cls(), part=big, spare=big)):
        assert made.part is big
        assert made.spare is big
    with pytest.raises(Error, match=r"part = Whole\("):
        cls(part=Whole())


def test_pickle_gives_an_equal_plugin():
    plugin = Whole(ratio=1, shares=[1, 0.5], part=Big(more=3), spare=Small())
    again = pickle.loads(pickle.dumps(plugin))
    assert again == plugin
    assert hash(again) == hash(plugin)
    assert type(again.part) is Big


def test_local_classes_with_slots_and_factories():
    @dataclass(frozen=True, slots=True)
    class Local(Part):
        steps: Annotated[int, Interval(ge=1)]
        """Documented."""
        decay: tuple[float, ...] = field(default_factory=lambda: [1, 2])

    assert Local(np.int32(3)) == Local(steps=3)
    assert Local(3).decay == (1.0, 2.0)
    assert fields_of(Local)["steps"].doc == "Documented."
    with pytest.raises(Error, match=r"steps = 0: must be int >= 1"):
        Local(0)


POSTPONED = '''
from __future__ import annotations
from dataclasses import dataclass
from typing import Annotated, Literal
from annotated_types import Interval
from seqjax.plugin import Plugin

Share = Annotated[float, Interval(gt=0, le=1)]

def make():
    @dataclass(frozen=True)
    class Postponed(Plugin):
        share: Share | tuple[Share, ...] = 1
        """Its part."""
        form: Literal["a", "b"] = "a"
        inner: Plugin | None = None
    return Postponed
'''


def test_postponed_annotations_in_a_local_class(tmp_path, monkeypatch):
    file = tmp_path / "postponed.py"
    file.write_text(POSTPONED)
    spec = importlib.util.spec_from_file_location("postponed", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "postponed", module)
    spec.loader.exec_module(module)
    cls = module.make()
    assert cls([1, 0.5], inner=Small()).share == (1.0, 0.5)
    assert fields_of(cls)["share"].doc == "Its part."
    with pytest.raises(Error) as caught:
        cls(2, "c", 3)
    assert len(caught.value.problems) == 3


def test_docs_are_those_under_the_fields():
    docs = {name: f.doc for name, f in fields_of(Whole).items()}
    assert docs["ratio"] == "How much."
    assert docs["count"] == "How many. Over several lines, and paragraphs."
    assert docs["flag"] == ""

    @dataclass(frozen=True)
    class Child(Whole):
        """The docstring of a class is not that of a field."""

        ratio: float = 0.1
        """Overridden."""

    assert fields_of(Child)["ratio"].doc == "Overridden."
    assert fields_of(Child)["count"].doc.startswith("How many.")


def test_a_class_without_source_works_without_docs():
    namespace = {"__name__": __name__, "Plugin": Plugin, "dataclass": dataclass}
    exec('@dataclass(frozen=True)\nclass Typed(Plugin):\n    x: float = 1\n    "Doc."', namespace)
    assert namespace["Typed"](2).x == 2.0
    assert fields_of(namespace["Typed"])["x"].doc == ""


def test_a_subclass_cannot_change_what_its_base_has_declared_final():
    class Base(Plugin):
        @final
        def step(self):
            return 1

    with pytest.raises(Error, match=r"Mine.step: Base does not let subclasses define step.*; define what help\(Base\)"):

        class Mine(Base):
            def step(self):
                return 2

    class Mixin:
        def step(self):
            return 2

    with pytest.raises(Error, match=r"Mixed.step: Base does not let subclasses define step"):

        class Mixed(Mixin, Base):
            pass


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (bool, "true or false"),
        (str, "a string"),
        (Share, "float in (0, 1]"),
        (Annotated[float, Gt(0)], "float > 0"),
        (Annotated[int, Interval(ge=1)], "int >= 1"),
        (Annotated[int, Interval(le=5)], "int in (-inf, 5]"),
        (Annotated[float, Interval(lt=0.5)], "float in (-inf, 0.5)"),
        (Literal["a", "b"], "'a' or 'b'"),
        (tuple[int, ...], "a tuple of int"),
        (tuple[int, str], "a tuple (int, a string)"),
        (Share | tuple[Share, ...], "float in (0, 1] or a tuple of float in (0, 1]"),
        (Small, "a model"),
        (Optimizer, "an optimizer"),
        (Part | None, "a model or none"),
    ],
)
def test_a_hint_in_words(hint, words):
    assert type_in_words(hint) == words


def test_members_are_the_alternatives_without_ranges():
    assert members(Share | tuple[Share, ...] | None) == (float, tuple[Share, ...], type(None))
    assert members(Annotated[Share | int, "note"]) == (float, int)
    assert members(str) == (str,)


@pytest.mark.parametrize(
    ("kind", "name", "field", "bits"),
    [("gradient", "truncated", "steps", 31), ("model", "rnn", "hidden", 31), ("dataset", "copy", "num_steps", 63)],
)
def test_a_whole_number_has_no_more_bits_than_what_it_becomes(kind, name, field, bits):
    for number in (2**bits, 10**400):
        with pytest.raises(Error, match=rf"{field} = .*: a whole number is below 2\^{bits}"):
            create(kind, name, **{field: number})
    assert getattr(create(kind, name, **{field: 2**bits - 1}), field) == 2**bits - 1
