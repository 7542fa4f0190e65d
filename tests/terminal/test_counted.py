"""The live line of a sweep and of a measurement, and the lines that stay."""

import contextlib
import io
import re

import jax.numpy as jnp
from support.quick import BASE

import seqjax as sj
from seqjax.terminal import counted
from seqjax.terminal.counted import CountedDisplay
from seqjax_gradients import Full, Randomized


class Terminal(io.StringIO):
    isatty = lambda self: True


def step(w, s, x):
    s = 0.5 * s + w * x
    return s, s


def shown(work):
    """What a function returns, and what it shows on a terminal: one text for each change, without seconds."""
    with contextlib.redirect_stdout(Terminal()) as stream:
        result = work()
    texts = re.split(r"(?:\x1b\[[0-9;?]*[A-Za-z]|\r|\n)+", stream.getvalue())
    return result, [re.sub(r"\(\d+ s\)", "(n s)", text) for text in texts if text]


def test_the_time_left_is_that_of_items_that_were_worked_on(monkeypatch):
    """The first item, such as a run that is opened, took no time, two took 100 and 60 s, and the next has taken 20."""
    now = [0.0]
    monkeypatch.setattr(counted.time, "monotonic", lambda: now[0])

    def work(alike):
        with CountedDisplay(6, True, "preparing", alike) as display:
            for seconds in (0, 100, 60, 20):
                display.begin("a\n")
                now[0] += seconds
                if seconds:
                    display.update("half")
                if seconds != 20:
                    display.end("well")

    for alike, left in ((True, " · about 3:40 left"), (False, "")):
        texts = shown(lambda alike=alike: work(alike))[1]
        assert texts[:2] == ["preparing", r"[1/6] a\n: compiling"], "nothing is known"
        assert texts[-1] == rf"[4/6] a\n: half{left}"


def test_run_sweep_and_measure_show_a_live_line_and_each_result_once(capsys):
    _, texts = shown(lambda: sj.sweep(BASE, {"seed": [0, 1]}))
    assert [text for text in texts if not text.startswith("[")] == ["preparing"], "the runs print no lines of their own"
    for n in range(2):
        for text in ("compiling", "epoch 1 of 2", "epoch 2 of 2"):
            assert any(each.startswith(f"[{n + 1}/2] seed={n}: {text}") for each in texts)
    assert [text.partition(":")[0] for text in texts if "perplexity" in text] == ["[1/2] seed=0", "[2/2] seed=1"]
    scan = {"params": jnp.array(1.0), "state": jnp.zeros(1), "xs": jnp.ones((4, 1)), "draws": 30, "together": 2}
    measure = lambda **options: sj.measure(step, {"full": Full(), "random": Randomized()}, **scan, **options)
    _, texts = shown(measure)
    begin = ["the true gradients", "[1/2] full: compiling", "[1/2] full: 1 of 1 draw", "[1/2] full: 1 draw (n s)"]
    draws = [f"[2/2] random: {count} of 30 draws" for count in range(2, 31, 2)]
    end = ["[2/2] random: 30 draws (n s)", "timing the updates"]
    assert list(dict.fromkeys(texts)) == [*begin, "[2/2] random: compiling", *draws, *end]
    assert [texts.count(text) for text in (begin[-1], end[0])] == [1, 1]
    _, texts = shown(lambda: measure(progress=False))
    assert "compiling" in shown(BASE.run)[1]
    BASE.run()
    sj.sweep(BASE, {"seed": [0]})
    measure()
    assert (texts, capsys.readouterr()) == ([], ("", "")), "it was asked for, or this is no terminal"
