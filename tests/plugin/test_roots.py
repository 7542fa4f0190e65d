"""The packages in which plugins are found by class name have all of them, and say what a wrong name may mean."""

import ast
import importlib
from pathlib import Path

import pytest

from seqjax.plugin import entries, registry

BUILT_IN = {
    kind: {entry.target.partition(":")[2]: entry for entry in entries(kind) if entry.distribution == registry.BUILT_IN}
    for kind in registry.GROUPS
}


@pytest.mark.parametrize(("kind", "group"), registry.GROUPS.items())
def test_a_root_has_the_built_in_plugins_and_its_stub_lists_them(kind, group):
    package = importlib.import_module(group)
    stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text("utf-8"))
    of_plugins = [node for node in stub.body if isinstance(node, ast.ImportFrom) and not node.level]
    assert {node.module for node in of_plugins} == {f"seqjax_{group.removeprefix('seqjax.')}"}
    names = [alias.name for node in of_plugins for alias in node.names]
    assert sorted(names) == sorted(BUILT_IN[kind])
    for name, entry in BUILT_IN[kind].items():
        assert getattr(package, name) is registry.load(entry)
    assert {*names, *package.__all__} <= {*dir(package)}
    assert not {*names} & {*package.__all__}


def test_a_name_that_is_not_there_suggests_the_close_one():
    import seqjax.gradients

    with pytest.raises(
        AttributeError, match=r"^seqjax\.gradients has no attribute 'Truncatd'; did you mean 'Truncated'\?$"
    ):
        _ = seqjax.gradients.Truncatd
    with pytest.raises(AttributeError, match=r"did you mean 'weighted_sum'\?$"):
        _ = seqjax.gradients.weigted_sum
    with pytest.raises(AttributeError, match=r"did you mean 'RTRL'\?$"):
        _ = seqjax.gradients.Rtrl
    with pytest.raises(AttributeError, match=r"it is in another package: from seqjax\.models import GRU$"):
        _ = seqjax.gradients.GRU
    with pytest.raises(AttributeError, match=r"^seqjax has no attribute 'lag'; did you mean 'lags'\?$"):
        _ = seqjax.lag
    with pytest.raises(ImportError) as caught:
        from seqjax.gradients import Truncatd  # noqa: F401
    assert "Truncated" in dir(seqjax.gradients)  # Python takes the suggestion of its traceback from there
    assert caught.value.name == "seqjax.gradients"
