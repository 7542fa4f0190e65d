// Draws the curves of a comparison: one line for each variant, with a band around it.
"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const [chart, legend, readout, values] = ["chart", "legend", "readout", "values"].map(find);
  const [metric, along, log, from, to] = ["metric", "along", "log", "from", "to"].map(find);
  const COLOURS = 8, DASHES = ["", "7 3", "2 3", "9 3 2 3"];
  const FEW = 40; // a line of at most this many points has a dot at each of them
  const MARGIN = { left: 62, right: 14, top: 30, bottom: 42 };
  const hidden = new Set(); // indices of variants
  let drawn = []; // the points on the screen, for the pointer

  // ---- the data that are shown

  // The points of a variant where the chosen metric is known.
  function points(variant) {
    const found = variant.metrics[metric.value], xs = variant.along[along.value];
    if (!found || !xs) return [];
    return found.middle
      .map((y, n) => ({ n, x: xs[n], y, low: found.low?.[n] ?? y, high: found.high?.[n] ?? y }))
      .filter((point) => point.x !== null && point.y !== null);
  }

  // The range of x, of which the sliders choose a part.
  function extent() {
    const xs = data.variants.flatMap((variant) => points(variant).map((point) => point.x));
    return xs.length ? bounds(xs) : [0, 1];
  }

  // The least and the largest value. Math.min cannot take as many arguments as a long curve has points.
  const bounds = (found) => found.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

  function chosenRange() {
    const [least, most] = extent(), at = (slider) => least + (most - least) * slider.value / slider.max;
    return at(from) < at(to) ? [at(from), at(to)] : [least, most];
  }

  // ---- axes

  function niceStep(span, count, whole) {
    const power = 10 ** Math.floor(Math.log10(span / count));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power * count >= span * 0.999);
    return whole ? Math.max(1, step) : step;
  }

  function linearTicks([low, high], count, whole) {
    const step = niceStep(high - low || 1, count, whole), first = Math.ceil(low / step - 1e-9);
    const length = Math.max(0, Math.floor(high / step + 1e-9) - first + 1);
    return Array.from({ length }, (_, n) => (first + n) * step);
  }

  // 1, 2 and 5 times the powers of ten; the powers alone if there are many; linear ticks if there are too few.
  function logTicks([low, high], count) {
    const powers = [];
    for (let n = Math.floor(Math.log10(low)); n <= Math.log10(high); n++) powers.push(10 ** n);
    const inside = (tick) => tick >= low * 0.9999 && tick <= high * 1.0001;
    const fine = powers.flatMap((power) => [power, 2 * power, 5 * power]).filter(inside);
    if (fine.length > count) return powers.filter(inside);
    return fine.length < 3 ? linearTicks([low, high], count, false) : fine;
  }

  // A number with at most 4 digits: 0.0123, 4.683, 12,345, 1.2M, 3.1e-5.
  function short(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size < 1e-4 || size >= 1e12) return value.toExponential(2).replace(/\.?0+e/, "e");
    const compact = size >= 1e5 ? "compact" : "standard";
    return new Intl.NumberFormat("en", { notation: compact, maximumSignificantDigits: size >= 1e4 && size < 1e5 ? 5 : 4 })
      .format(value);
  }

  const withBand = (point, banded) =>
    banded && point.high > point.low ? `${short(point.y)} (${short(point.low)} to ${short(point.high)})` : short(point.y);

  // ---- the figure

  function svg(tag, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  const path = (corners) => corners.map(([x, y], n) => `${n ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

  function draw() {
    const width = Math.max(280, chart.parentNode.clientWidth), height = Math.min(460, Math.max(280, width * 0.55));
    const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
    const curves = data.variants.map((variant, n) => hidden.has(n) ? [] : points(variant));
    const [x0, x1] = chosenRange(), inside = curves.flat().filter((point) => point.x >= x0 && point.x <= x1);
    const known = inside.length ? inside : curves.flat();
    let [y0, y1] = known.length ? bounds(known.flatMap(({ y, low, high }) => [y, low, high])) : [0, 1];
    log.disabled = y0 <= 0;
    const isLog = log.checked && !log.disabled, place = isLog ? Math.log : (value) => value;
    if (y0 === y1) [y0, y1] = isLog ? [y0 / 1.1, y1 * 1.1] : [y0 - (Math.abs(y0) || 1) * 0.1, y1 + (Math.abs(y1) || 1) * 0.1];
    const pad = 0.04 * (place(y1) - place(y0)), a = place(y0) - pad, b = place(y1) + pad;
    const toX = (x) => MARGIN.left + (x1 === x0 ? 0.5 : (x - x0) / (x1 - x0)) * (right - MARGIN.left);
    const toY = (y) => bottom - (place(y) - a) / (b - a) * (bottom - MARGIN.top);

    chart.replaceChildren();
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const clip = svg("clipPath", { id: "inside" });
    clip.append(svg("rect", { x: MARGIN.left - 3, y: MARGIN.top - 3, width: right - MARGIN.left + 6, height: bottom - MARGIN.top + 6 }));
    chart.append(clip);
    const whole = ["epoch", "update", "tokens"].includes(along.value);
    for (const x of linearTicks([x0, x1], Math.floor(width / 90), whole)) {
      chart.append(svg("line", { class: "grid", x1: toX(x), x2: toX(x), y1: MARGIN.top, y2: bottom }));
      chart.append(svg("text", { x: toX(x), y: bottom + 17, "text-anchor": "middle" }, short(x)));
    }
    const yRange = isLog ? [Math.exp(a), Math.exp(b)] : [a, b];
    for (const y of isLog ? logTicks(yRange, 8) : linearTicks(yRange, 6, false)) {
      chart.append(svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: toY(y), y2: toY(y) }));
      chart.append(svg("text", { x: MARGIN.left - 6, y: toY(y) + 4, "text-anchor": "end" }, short(y)));
    }
    chart.append(svg("rect", { class: "frame", x: MARGIN.left, y: MARGIN.top, width: right - MARGIN.left, height: bottom - MARGIN.top }));
    chart.append(svg("text", { x: 4, y: 16 }, label(metric)));
    chart.append(svg("text", { x: (MARGIN.left + right) / 2, y: height - 6, "text-anchor": "middle" }, label(along)));

    drawn = [];
    curves.forEach((curve, n) => {
      if (!curve.length) return;
      const group = svg("g", { class: `curve c${n % COLOURS}`, "clip-path": "url(#inside)", "data-variant": n });
      const at = (key) => curve.map((point) => [toX(point.x), toY(point[key])]);
      if (data.variants[n].metrics[metric.value].low) {
        group.append(svg("path", { class: "band", d: path([...at("high"), ...at("low").reverse()]) + "Z" }));
      }
      group.append(svg("path", { d: path(at("y")), "stroke-dasharray": dashes(n) }));
      if (curve.length <= FEW) {
        group.append(svg("path", { class: "points", d: at("y").map((corner) => path([corner]) + "h0").join("") }));
      }
      chart.append(group);
      for (const point of curve) {
        if (point.x >= x0 && point.x <= x1) drawn.push({ n, point, x: toX(point.x), y: toY(point.y) });
      }
    });
    describe([x0, x1]);
  }

  const label = (select) => select.selectedOptions[0]?.textContent ?? "";
  const dashes = (n) => DASHES[(n + Math.floor(n / COLOURS)) % DASHES.length];

  // What a screen reader says of the figure, the range beside the sliders, and the table, if it is open.
  function describe([x0, x1]) {
    const count = data.variants.length - hidden.size, range = `${label(along)} ${short(x0)} to ${short(x1)}`;
    chart.setAttribute("aria-label",
      `${label(metric)} by ${label(along)}: ${count} of ${data.variants.length} variants, ${range}. The table below the figure has the values.`);
    find("range").textContent = range;
    from.setAttribute("aria-valuetext", `${label(along)} ${short(x0)}`);
    to.setAttribute("aria-valuetext", `${label(along)} ${short(x1)}`);
    readout.textContent = "";
    if (values.parentNode.open) fillValues();
  }

  // The values of the figure: a row for each epoch, a column for each variant that is shown.
  function fillValues() {
    const columns = data.variants.map((variant, n) => ({ variant, n })).filter(({ n }) => !hidden.has(n));
    const table = document.createElement("table");
    table.createCaption().textContent = `${label(metric)} after each epoch`;
    const head = table.createTHead().insertRow();
    for (const name of ["epoch", ...columns.map(({ variant }) => variant.name)]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    const body = table.createTBody();
    const known = columns.map(({ variant }) => new Map(points(variant).map((point) => [variant.along.epoch[point.n], point])));
    const epochs = new Set(known.flatMap((column) => [...column.keys()]));
    for (const epoch of [...epochs].sort((a, b) => a - b)) {
      const row = body.insertRow(), heading = document.createElement("th");
      heading.scope = "row";
      heading.textContent = epoch;
      row.append(heading);
      known.forEach((column, index) => {
        const cell = row.insertCell(), point = column.get(epoch);
        cell.className = "number";
        cell.textContent = point ? withBand(point, columns[index].variant.metrics[metric.value].low) : "";
      });
    }
    values.replaceChildren(table);
  }

  // ---- what the reader does

  function highlight(n) {
    chart.classList.toggle("dim", n !== null);
    for (const group of chart.querySelectorAll(".curve")) group.classList.toggle("on", Number(group.dataset.variant) === n);
  }

  data.variants.forEach((variant, n) => {
    const button = document.createElement("button"), sample = svg("svg", { viewBox: "0 0 30 10", "aria-hidden": "true" });
    sample.append(svg("path", { d: "M0 5H30", "stroke-dasharray": dashes(n) }));
    button.type = "button";
    button.className = `c${n % COLOURS}`;
    button.append(sample, variant.legend);
    button.addEventListener("click", () => show(n, hidden.has(n)));
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => highlight(hidden.has(n) ? null : n));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => highlight(null));
    legend.append(button);
  });

  function show(n, isShown) {
    if (isShown) hidden.delete(n); else hidden.add(n);
    update();
    highlight(null);
  }

  function update() {
    [...legend.children].forEach((button, n) => button.setAttribute("aria-pressed", String(!hidden.has(n))));
    draw();
  }

  function zoom(start, end) {
    [from.value, to.value] = [start, end];
    draw();
  }

  function fill(select, names, chosen) {
    for (const name of names) select.append(new Option(data.labels[name], name, false, name === chosen));
  }

  fill(metric, data.metrics, data.metric);
  fill(along, data.along, "epoch");
  const suitsLog = () => { log.checked = metric.value.endsWith("perplexity"); };
  metric.addEventListener("change", () => { suitsLog(); draw(); });
  along.addEventListener("change", () => zoom(0, from.max));
  log.addEventListener("change", draw);
  from.addEventListener("input", () => { from.value = Math.min(from.value, to.value - 1); draw(); });
  to.addEventListener("input", () => { to.value = Math.max(to.value, Number(from.value) + 1); draw(); });
  find("whole").addEventListener("click", () => zoom(0, from.max));
  find("all").addEventListener("click", () => { hidden.clear(); update(); });
  find("none").addEventListener("click", () => { data.variants.forEach((_, n) => hidden.add(n)); update(); });
  values.parentNode.addEventListener("toggle", () => { if (values.parentNode.open) fillValues(); });

  // The pointer: the nearest point is named below the figure; dragging sideways zooms in.
  let start = null;
  const onChart = (event) => {
    const box = chart.getBoundingClientRect(), scale = chart.viewBox.baseVal.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const share = (x) => Math.min(1, Math.max(0, (x - MARGIN.left) / (chart.viewBox.baseVal.width - MARGIN.left - MARGIN.right)));
  chart.addEventListener("pointerdown", (event) => {
    start = onChart(event)[0];
    chart.setPointerCapture(event.pointerId);
  });
  chart.addEventListener("pointermove", (event) => {
    const [x, y] = onChart(event);
    chart.querySelectorAll(".zoom, .dot").forEach((node) => node.remove());
    if (start !== null) {
      const height = chart.viewBox.baseVal.height - MARGIN.top - MARGIN.bottom;
      chart.append(svg("rect", { class: "zoom", x: Math.min(x, start), width: Math.abs(x - start), y: MARGIN.top, height }));
      return;
    }
    let nearest = null, distance = 40;
    for (const each of drawn) {
      const away = Math.hypot(each.x - x, each.y - y);
      if (away < distance) [nearest, distance] = [each, away];
    }
    highlight(nearest && nearest.n);
    readout.textContent = "";
    if (!nearest) return;
    const variant = data.variants[nearest.n], banded = variant.metrics[metric.value].low;
    chart.append(svg("circle", { class: `dot c${nearest.n % COLOURS}`, cx: nearest.x, cy: nearest.y, r: 4 }));
    readout.textContent = `${variant.name}, ${label(along)} ${short(nearest.point.x)}: ${withBand(nearest.point, banded)}`;
  });
  chart.addEventListener("pointerup", (event) => {
    const ends = [start, onChart(event)[0]].sort((a, b) => a - b).map(share);
    const dragged = start !== null && Math.abs(onChart(event)[0] - start) > 8;
    start = null;
    if (!dragged) return;
    const [low, high] = [Number(from.value), Number(to.value)];
    const [first, last] = ends.map((end) => Math.round(low + (high - low) * end));
    if (last > first) zoom(first, last);
  });
  for (const event of ["pointercancel", "pointerleave"]) {
    chart.addEventListener(event, () => {
      start = null;
      highlight(null);
      chart.querySelectorAll(".zoom, .dot").forEach((node) => node.remove());
    });
  }
  chart.addEventListener("dblclick", () => zoom(0, from.max));

  suitsLog();
  find("figure").hidden = false;
  update();
  new ResizeObserver(draw).observe(chart.parentNode);
}
