"""`seqjax list`."""

import pytest
from support.shell import call

from seqjax import __version__, names
from seqjax.plugin import registry

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
    assert "seqjax show KIND NAME" in done.stdout
    assert call("list", f"{kind}s").stdout == done.stdout


def test_a_verbose_list_says_that_nothing_is_wrong():
    done = call("list", "optimizer", "-v")
    assert (done.returncode, done.stderr) == (0, "")
    assert "seqjax_optimizers.adam:Adam, " in done.stdout
    assert "all plugins can be imported, and all names are unique" in done.stdout


def test_list_has_every_kind():
    headings = [line for line in call("list").stdout.splitlines()[:-2] if not line.startswith(" ")]
    assert headings == KINDS
