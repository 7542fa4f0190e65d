"""The live line of a sweep and of a measurement, and the lines that stay."""

import contextlib
import functools
import io
import re

import numpy as np
import pytest
from support.quick import BASE

import seqjax as sj
from seqjax.gradients import Full, Randomized
from seqjax.terminal import counted
from seqjax.terminal.counted import CountedDisplay


class Terminal(io.StringIO):
    isatty = lambda self: True


def step(w, s, x):
    return (new := 0.5 * s + w * x), new


def shown(work):
    """What a function shows on a terminal: one text for each change, without seconds."""
    with contextlib.redirect_stdout(Terminal()) as stream, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        work()
    texts = re.split(r"(?:\x1b\[[0-9;?]*[A-Za-z]|\r|\n)+", stream.getvalue())
    return [re.sub(r"\(\d+ s\)", "(n s)", text) for text in texts if text]


@pytest.mark.parametrize(("alike", "left"), [(True, " · about 3:40 left"), (False, "")])
def test_the_time_left_is_that_of_items_that_were_worked_on(monkeypatch, alike, left):
    """The first item, such as a run that is opened, took no time, two took 100 and 60 s, and the next has taken 20."""
    now = [0.0]
    monkeypatch.setattr(counted.time, "monotonic", lambda: now[0])

    def work():
        with CountedDisplay(6, True, "preparing", alike) as display:
            for seconds in (0, 100, 60, 20):
                display.begin("a\n")
                now[0] += seconds
                if seconds:
                    display.update("half")
                if seconds != 20:
                    display.end("well")

    texts = shown(work)
    assert texts[:2] == ["preparing", r"[1/6] a\n: started"], "nothing is known"
    assert texts[-1] == rf"[4/6] a\n: half{left}"


def test_run_sweep_and_measure_show_a_live_line_and_each_result_once(capsys):
    texts = shown(lambda: sj.sweep(BASE, {"seed": [0, 1]}))
    heads = [f"[{n + 1}/2] seed={n}: {text}" for n in (0, 1) for text in ("started", "epoch 1 of 2", "epoch 2 of 2")]
    assert [head for head in heads if not any(text.startswith(head) for text in texts)] == []
    assert [text for text in texts if text[0] != "["] == ["preparing"], "the runs print no lines of their own"
    assert [text[:12] for text in texts if "perplexity" in text] == ["[1/2] seed=0", "[2/2] seed=1"]
    measure = functools.partial(sj.measure, step, np.float32(1), np.float32(0), np.ones(4, np.float32))
    texts = shown(functools.partial(measure, {"full": Full(), "random": Randomized()}, draws=30, together=2))
    full = [f"[1/2] full: {text}" for text in ("started", "1 of 1 draw", "1 draw (n s)")]
    draws = [f"{count} of 30 draws" for count in range(2, 31, 2)]
    random = [f"[2/2] random: {text}" for text in ("started", *draws, "30 draws (n s)")]
    assert list(dict.fromkeys(texts)) == ["the true gradients", *full, *random, "timing the updates"]
    assert [texts.count(each[-1]) for each in (full, random)] == [1, 1]
    assert any("compiling the training of rnn" in text for text in shown(BASE.run))
    assert shown(functools.partial(measure, Full(), progress=False)) == []
    for work in (BASE.run, lambda: sj.sweep(BASE, {"seed": [0]}), functools.partial(measure, Full())):
        work()
    assert capsys.readouterr() == ("", ""), "this is no terminal"
