"""The page of several runs: one HTML file with their results, curves, experiments, samples and figures."""

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqjax.array_files import saved_file
from seqjax.data.dataset import Data
from seqjax.extras import why_no_figure
from seqjax.files import replace
from seqjax.plugin import config, registry
from seqjax.plugin.base import Plugin
from seqjax.report.metric_labels import are_on_tokens, axis_label
from seqjax.report.page.template import MARK, Section, image_source, page, scrolling, table, text
from seqjax.report.seeds import average_and_band, seeds_of
from seqjax.report.table import Table
from seqjax.runs.environment import read_environment
from seqjax.runs.files import folder
from seqjax.runs.run import Run
from seqjax.sweeps.variant_names import object_labels

ALONG = ("epoch", "update", "tokens", "seconds")
"""The columns of the metrics that the x axis may show."""
MOST_EPOCHS = 400
"""The number of epochs of a curve that a page keeps at most."""
MOST_BYTES = 1_000_000
"""The size in bytes of all figures on a page, at most."""
ABSENT = "–"
"""What is shown for a field that an experiment does not have."""

Variants = Mapping[str, Sequence[Run]]


def write_page(runs: Any, file: Path, metric: str, against: str | None) -> None:
    """Writes the page of some runs; see `Runs.page`.

    Args:
        runs: a `Runs`.
        file: is written.
        metric: the metric that is shown first.
        against: the variant that the others are compared with; None: no differences.
    """
    variants, labels = runs.variants, _labels(runs)
    when = "after the last epoch and after the best one, which has the lowest held-out loss"
    what = f"The {labels.get(metric, metric)} of each variant, {when}, with 95 % intervals over seeds"
    result = table(runs.compare(metric, against), what)
    data = curves(variants, metric, labels)
    names = {id(run): name for name, run in runs.items()}
    # Runs of one variant differ in the seed alone: one of them is shown.
    first = {names[id(group[0])]: group[0] for group in variants.values()}
    sections = [
        Section("result", "Result", result),
        Section("curves", "Curves", _chart(data)),
        Section("experiments", "Experiments side by side", _experiments(variants, against)),
        Section("runs", "Runs", table(_each_run(runs, metric, labels), "Each run by itself")),
        Section("samples", "Samples", _samples(first)),
        Section("figures", "Figures", _figures(first)),
    ]
    title = f"{len(runs)} run{'s' * (len(runs) != 1)} of {_subject(runs)}"
    scripts = ["tables.js", *(["curves.js"] if data["metrics"] else [])]
    content = page(title, _lead(runs, variants), [each for each in sections if each.body], scripts, data)
    replace(file, content, MARK)


def curves(variants: Variants, metric: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """What `curves.js` draws: for each variant and metric the mean over its seeds, and a band around it.

    Numbers have five significant digits. Runs that diverged or are unfinished are left out if others of their variant
    trained longer, and the legend counts them. After the end of a run that stopped early, the mean is that of the seeds
    that trained on. An epoch that was not evaluated with all seeds that have it is None.

    Args:
        variants: the runs of each variant.
        metric: the metric that is shown first.
        labels: a label for each column of the metrics.

    Returns:
        `metric`, `labels`, `along` (columns for the x axis), `metrics` (columns for the y axis), and `variants`, each
        with `name`, `legend`, `along` (column -> median of each epoch) and `metrics` (column -> `middle`, `low` and
        `high` of each epoch; a single run has no band).
    """
    along = [name for name in ALONG if name in labels]
    names = [name for name in labels if name not in ALONG]
    drawn = [_curve(variant, group, metric, along, names) for variant, group in variants.items()]
    return {"metric": metric, "labels": labels, "along": along, "metrics": names, "variants": drawn}


def _curve(variant: str, group: Sequence[Run], metric: str, along: list[str], names: list[str]) -> dict[str, Any]:
    seeds = seeds_of(group)
    curve: dict[str, Any] = {"name": variant, "legend": f"{variant} ({seeds.in_words})", "along": {}, "metrics": {}}
    if not seeds.runs:
        return curve
    kept = _kept_epochs(average_and_band(seeds.column(metric), seeds.lengths, "mean", "range")[0])
    for name in along:
        middle, _, _ = average_and_band(seeds.column(name), seeds.lengths, "median", "range")
        curve["along"][name] = _numbers(middle[kept])
    for name in names:
        middle, low, high = average_and_band(seeds.column(name), seeds.lengths, "mean", "interval")[:, kept]
        if np.isnan(middle).all():
            continue
        curve["metrics"][name] = {"middle": _numbers(middle)}
        if len(seeds.runs) > 1:
            curve["metrics"][name] |= {"low": _numbers(low), "high": _numbers(high)}
    return curve


def _kept_epochs(average: np.ndarray) -> np.ndarray:
    """The indices of the epochs that a page keeps: all; of a long run some of those that were evaluated."""
    if len(average) <= MOST_EPOCHS:
        return np.arange(len(average))
    known = np.flatnonzero(~np.isnan(average))
    known = known if known.size else np.arange(len(average))
    return known[np.unique(np.linspace(0, len(known) - 1, MOST_EPOCHS).round().astype(int))]


def _numbers(values: np.ndarray) -> list[float | int | None]:
    """Numbers with five significant digits; whole ones are exact, and those that are not finite are None."""
    return [
        None if not math.isfinite(value) else int(value) if value.is_integer() else float(f"{value:.5g}")
        for value in values.tolist()
    ]


def _labels(runs: Mapping[str, Run]) -> dict[str, str]:
    """A label for each column of the metrics of any run."""
    columns = dict.fromkeys(name for run in runs.values() for row in run.metrics[:1] for name in row)
    tokens = are_on_tokens(runs.values())
    return {name: " ".join(axis_label(name, tokens).split()) for name in columns}


def _subject(runs: Mapping[str, Run]) -> str:
    """The datasets and the models of the runs."""
    pairs = [(_value(run.experiment.model), registry.name_of(run.experiment.dataset)) for run in runs.values()]
    models, datasets = (", ".join(dict.fromkeys(column)) for column in zip(*pairs, strict=True))
    return f"{models} on {datasets}"


def _lead(runs: Mapping[str, Run], variants: Variants) -> str:
    """How many variants there are, and with which versions and devices the runs in folders were made."""
    made_with: dict[str, None] = {}
    for run in runs.values():
        if run.path is not None:
            environment = read_environment(run.path)
            versions = ", ".join(f"{name} {environment.versions[name]}" for name in ("seqjax", "jax"))
            made_with[f"{versions} on {environment.device}"] = None
    made = f" Made with {'; '.join(made_with)}." if made_with else ""
    return f"<p>{len(variants)} variant{'s' * (len(variants) != 1)}.{text(made)} This page needs no network.</p>"


def _chart(data: dict[str, Any]) -> str:
    """The figure, which `curves.js` draws, with its controls."""
    if not data["metrics"]:
        return "<p>No run has finished its first epoch.</p>"
    banded = any("low" in column for variant in data["variants"] for column in variant["metrics"].values())
    band = "; its band is the 95 % bootstrap interval of the mean, which for two seeds is their range" * banded
    return f"""<noscript><p>The curves need JavaScript. The tables show their last values.</p></noscript>
<div id="figure" hidden>
<div class="controls"><label>Metric <select id="metric"></select></label>
<label>Along x <select id="along"></select></label>
<label><input type="checkbox" id="log"> Logarithmic</label></div>
<div><svg class="chart" id="chart" role="img"></svg></div>
<p class="readout" id="readout"></p>
<div class="legend" id="legend" role="group" aria-label="Variants: press one to hide or show it"></div>
<div class="controls"><button type="button" id="all">Show all variants</button>
<button type="button" id="none">Hide all variants</button></div>
<div class="controls"><label>From <input type="range" id="from" min="0" max="1000" value="0"></label>
<label>To <input type="range" id="to" min="0" max="1000" value="1000"></label>
<span id="range"></span><button type="button" id="whole">Zoom out</button></div>
<p class="note">A line is the mean over the seeds of a variant{band}. Drag over the figure, or move From and To, to
zoom in. Press a variant to hide it.</p>
<details><summary>The values of the figure as a table</summary>
{scrolling("", "The values of the figure").replace("<div", '<div id="values"', 1)}</details>
</div>"""


def _experiments(variants: Variants, against: str | None) -> str:
    """The fields in which the variants differ, one column for each variant, and then the fields that they share."""
    first = {variant: group[0] for variant, group in variants.items()}
    fields = {variant: _fields(run.experiment) for variant, run in first.items()}
    for field, label_of in object_labels(first).items():
        for variant, label in label_of.items():
            fields[variant][field] = label
    names = dict.fromkeys(name for own in fields.values() for name in own if name != "seed")
    varied = [name for name in names if len({own.get(name) for own in fields.values()}) > 1]
    shared = [(name, own) for name, own in next(iter(fields.values())).items() if name in names and name not in varied]
    reference = against or next(iter(fields))
    rows = [[name, *(own.get(name, ABSENT) for own in fields.values())] for name in varied]
    marked = {
        (n, variant)
        for n, name in enumerate(varied)
        for variant, own in fields.items()
        if name in own and own[name] != fields[reference].get(name)
    }
    seeds = [", ".join(str(run.experiment.seed) for run in group) for group in variants.values()]
    differ = [*rows, *([["seed", *seeds]] if len(set(seeds)) > 1 else [])]
    what = f"The fields that differ. Marked: other than in {reference}" if differ else "No field differs"
    return (
        table(Table(["", *fields], differ), what, marked)
        + f"<details><summary>The {len(shared)} fields that all variants share</summary>"
        + table(Table(["field", "value"], shared), "The fields that all variants share")
        + "</details>"
    )


def _fields(plugin: Any, prefix: str = "") -> dict[str, str]:
    """Dotted names of the fields of an experiment -> their values as texts."""
    texts = {}
    for field in dataclasses.fields(plugin):
        value, name = getattr(plugin, field.name), prefix + field.name
        texts[name] = _value(value)
        if isinstance(value, Plugin) and not isinstance(value, Data) and not config.is_object(value):
            texts |= _fields(value, f"{name}.")
    return texts


def _value(value: Any) -> str:
    """A value as a text; an object of Python is named by its function or class."""
    if isinstance(value, Data):
        return f"{type(value).__name__} {value.sha256[:8]}"
    if config.is_object(value):
        return config.describe(value)
    if isinstance(value, Plugin):
        return registry.name_of(value)
    return ", ".join(map(_value, value)) if isinstance(value, tuple) else str(value)


def _each_run(runs: Mapping[str, Run], metric: str, labels: Mapping[str, str]) -> Table:
    """The runs, one for each row, with the metric after the last and after the best epoch."""
    label, rows = labels.get(metric, metric), []
    for name, run in runs.items():
        state = "diverged" if run.diverged else "finished" if run.finished else "unfinished"
        last = run.metrics[-1] if run.metrics else {}
        best = run.metrics[run.best_epoch - 1] if run.best_epoch else {}
        values = [last.get("epoch"), last.get(metric), best.get("epoch"), best.get(metric), last.get("seconds")]
        rows.append([name, run.experiment.seed, state, *values])
    columns = (
        "run",
        "seed",
        "state",
        "epochs",
        f"{label}, last epoch",
        "best epoch",
        f"{label}, best epoch",
        "training time (s)",
    )
    return Table(columns, rows)


def _samples(runs: Mapping[str, Run]) -> str:
    """A card for each run on text, with the texts that it generated."""
    cards = [
        f"<figcaption>{text(name)}</figcaption><pre>{text(sample)}</pre>"
        for name, run in runs.items()
        if (sample := _sample(run))
    ]
    return _cards(cards)


def _sample(run: Run) -> str:
    """The generated texts of a run: those in its folder; empty if it has none."""
    if run.path is None:
        return "\n\n".join(f"--- {how} ---\n{sample}" for how, sample in run.samples.items())
    file = run.path / folder.SAMPLES
    return saved_file.read(file, lambda data: data.decode("utf-8", "replace")) if file.is_file() else ""


def _figures(runs: Mapping[str, Run]) -> str:
    """A card for each figure of the runs. Figures for which the page has no room are counted."""
    cards, room, left_out = [], MOST_BYTES, 0
    for name, run in runs.items():
        for figure, png in _pngs(run).items():
            source = image_source(png)
            room -= len(source)
            if room < 0:
                left_out += 1
                continue
            caption = text(f"{name}: {figure}")
            cards.append(f'<figcaption>{caption}</figcaption><img loading="lazy" alt="{caption}" src="{source}">')
    note = f"<p>{left_out} more figures are in the folders of the runs: they would make this page too large.</p>"
    return _cards(cards) + note * bool(left_out)


def _pngs(run: Run) -> dict[str, bytes]:
    """The PNG files in the folder of a run by name; for a run in memory its learning curve."""
    if run.path is not None:
        return {file.name: saved_file.read(file, bytes) for file in sorted(run.path.glob("*.png"))}
    if not run.metrics or not run.experiment.fit().has_curve or why_no_figure():
        return {}
    image = io.BytesIO()
    run.plot().savefig(image, dpi=100, format="png")
    return {folder.HISTORY: image.getvalue()}


def _cards(cards: Sequence[str]) -> str:
    """Cards side by side."""
    return f'<div class="cards">{"".join(f"<figure>{card}</figure>" for card in cards)}</div>' if cards else ""
