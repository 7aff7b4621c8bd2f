"use strict";
// Draws the charts of a load report from the numbers in #data. Every text goes in as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const HEIGHT = 260;
  const MARGIN = { top: 10, right: 16, bottom: 34, left: 66 };

  const svg = (name, attributes, parent, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const html = (name, className, parent, text) => {
    const node = document.createElement(name);
    node.className = className;
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };

  const short = (value) => {
    const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
    return String(Number(value.toFixed(digits)));
  };
  const duration = (ns) => {
    for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["us", 1e3]]) if (ns >= size) return `${short(ns / size)} ${unit}`;
    return `${Math.round(ns)} ns`;
  };
  const number = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : short(value));
  const seconds = (value) => `${Number(value.toFixed(2))} s`;
  const percentage = (value) => `${Number(value.toFixed(6))} %`;

  // Scales: from a value to 0..1, and the values that get a grid line.
  const step = (span, count) => {
    const rough = span / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    return power * [1, 2, 5, 10].find((factor) => rough <= factor * power * 1.0001);
  };
  const linear = (from, to, count) => {
    const high = to > from ? to : from + 1;
    const by = step(high - from, count);
    const ticks = [];
    for (let i = Math.ceil(from / by); i * by <= high * 1.0001; i++) ticks.push(i * by);
    return { place: (value) => (value - from) / (high - from), ticks };
  };
  const logarithmic = (from, to) => {
    const around = [];
    for (let power = Math.floor(Math.log10(from)); power <= Math.log10(to) + 1; power++) {
      for (const factor of to / from > 1000 ? [1] : [1, 2, 5]) around.push(factor * 10 ** power);
    }
    const low = around.filter((tick) => tick <= from).pop(), high = around.find((tick) => tick >= to && tick > low);
    const ticks = around.filter((tick) => tick >= low && tick <= high);
    return { place: (value) => Math.log(Math.max(value, low) / low) / Math.log(high / low), ticks };
  };

  const found = (series) => series.flatMap((each) => each.y).filter((value) => value !== null);

  const empty = (card, text) => {
    card.querySelector(".legend").replaceChildren();
    card.querySelector(".plot").replaceChildren();
    html("p", "empty", card.querySelector(".plot"), text);
  };

  // Draw now, and again whenever there is another width for it.
  const drawn = (plot, draw) => {
    draw();
    let drawnAt = plot.clientWidth;
    new ResizeObserver(() => {
      if (plot.clientWidth === drawnAt) return;
      drawnAt = plot.clientWidth;
      draw();
    }).observe(plot);
  };

  // A chart of lines over one axis. `chart`: x, the series with y (null: none), the ticks and names of both axes;
  // `span` where a value is not that of one x but of all from one to another.
  const lines = (id, chart) => {
    const card = document.getElementById(id);
    if (!card) return;
    const values = found(chart.series);
    if (!values.length) {
      empty(card, chart.none);
      return;
    }
    const legend = card.querySelector(".legend"), plot = card.querySelector(".plot");
    for (const series of chart.series) {
      const entry = html("span", "", legend);
      const sample = svg("svg", { viewBox: "0 0 22 10", "aria-hidden": "true" }, entry);
      svg("line", { x1: 0, x2: 22, y1: 5, y2: 5, class: `line ${series.style}` }, sample);
      entry.append(series.name);
    }
    const span = chart.span || ((i) => [chart.x[i]]);
    const lowest = Math.min(...values.filter((value) => value > 0)), highest = Math.max(...values);
    let log = Boolean(chart.canBeLog) && highest > 20 * lowest;
    if (chart.canBeLog) {
      const button = html("button", "", legend, "");
      button.type = "button";
      const label = () => { button.textContent = log ? "logarithmic" : "linear"; };
      label();
      button.addEventListener("click", () => { log = !log; label(); draw(); });
    }
    const tip = html("div", "tip", plot);
    tip.hidden = true;
    let picture = null;

    const draw = () => {
      const width = Math.max(plot.clientWidth, 240);
      const across = width - MARGIN.left - MARGIN.right, down = HEIGHT - MARGIN.top - MARGIN.bottom;
      const scaleY = log ? logarithmic(lowest, highest) : linear(0, highest * 1.05, 5);
      const scaleX = chart.scaleX(across / 90);
      const px = (value) => MARGIN.left + across * scaleX.place(value);
      const py = (value) => MARGIN.top + down * (1 - scaleY.place(value));
      const drawing = svg("svg", {
        viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img",
        "aria-label": `${card.querySelector("h2").textContent}: ${chart.series.map((each) => each.name).join(", ")}`,
      });
      for (const tick of scaleY.ticks) {
        const y = py(tick);
        svg("line", { x1: MARGIN.left, x2: MARGIN.left + across, y1: y, y2: y, class: "grid" }, drawing);
        svg("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, drawing, chart.formatY(tick));
      }
      for (const tick of scaleX.ticks) {
        const x = px(tick);
        svg("line", { x1: x, x2: x, y1: MARGIN.top, y2: MARGIN.top + down, class: "grid" }, drawing);
        svg("text", { x, y: HEIGHT - 18, "text-anchor": "middle" }, drawing, chart.tickX(tick));
      }
      svg("text", { x: MARGIN.left + across / 2, y: HEIGHT - 3, "text-anchor": "middle" }, drawing, chart.nameX);
      const floor = MARGIN.top + down;
      svg("line", { x1: MARGIN.left, x2: MARGIN.left + across, y1: floor, y2: floor, class: "axis" }, drawing);
      for (const series of chart.series) {
        // Pieces between the places where there is nothing.
        let piece = [];
        const pieces = [piece];
        series.y.forEach((value, i) => {
          if (value !== null) piece.push(...span(i).map((x) => [px(x), py(value)]));
          else if (piece.length) pieces.push(piece = []);
        });
        for (const points of pieces.filter((each) => each.length)) {
          const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`);
          if (series.area) {
            const first = points[0][0], last = points[points.length - 1][0];
            svg("path", { d: `M${first},${floor}L${path.join("L")}L${last},${floor}Z`, class: `area ${series.style}` }, drawing);
          }
          svg("path", { d: `M${path.join("L")}`, class: `line ${series.style}`, "data-series": series.name }, drawing);
          if (points.length === 1) svg("circle", { cx: points[0][0], cy: points[0][1], r: 3, class: `dot ${series.style}` }, drawing);
        }
      }
      const hover = svg("g", { visibility: "hidden" }, drawing);
      drawing.addEventListener("pointermove", (event) => {
        const x = event.clientX - plot.getBoundingClientRect().left;
        let at = 0;
        chart.x.forEach((value, i) => { if (Math.abs(px(value) - x) < Math.abs(px(chart.x[at]) - x)) at = i; });
        const cross = px(chart.x[at]);
        hover.replaceChildren();
        hover.setAttribute("visibility", "visible");
        svg("line", { x1: cross, x2: cross, y1: MARGIN.top, y2: floor, class: "cross" }, hover);
        const told = [chart.tipX(at)];
        for (const series of chart.series) {
          const value = series.y[at];
          told.push(`${series.name}: ${value === null ? "-" : chart.formatY(value)}`);
          if (value !== null) svg("circle", { cx: cross, cy: py(value), r: 4, class: `dot ${series.style}` }, hover);
        }
        tip.textContent = told.join("\n");
        tip.hidden = false;
        const room = cross + 14 + tip.offsetWidth < width;
        tip.style.transform = `translate(${room ? cross + 14 : Math.max(cross - 14 - tip.offsetWidth, 0)}px, ${MARGIN.top + 8}px)`;
      });
      drawing.addEventListener("pointerleave", () => {
        hover.setAttribute("visibility", "hidden");
        tip.hidden = true;
      });
      if (picture) picture.replaceWith(drawing);
      else plot.prepend(drawing);
      picture = drawing;
    };
    drawn(plot, draw);
  };

  // Bars from left to right, one a row, with what they say at both ends.
  const bars = (id, rows, none) => {
    const card = document.getElementById(id), plot = card.querySelector(".plot");
    const most = Math.max(0, ...rows.map((row) => row.value));
    if (!most) {
      empty(card, none);
      return;
    }
    const widest = (texts) => {
      const probe = svg("svg", {}, plot);
      const widths = texts.map((text) => svg("text", {}, probe, text).getComputedTextLength());
      probe.remove();
      return Math.ceil(Math.max(...widths));
    };
    let picture = null;
    const draw = () => {
      const width = Math.max(plot.clientWidth, 240);
      const left = widest(rows.map((row) => row.name)) + 10, right = widest(rows.map((row) => row.text)) + 10;
      const across = Math.max(width - left - right, 20);
      const drawing = svg("svg", {
        viewBox: `0 0 ${width} ${rows.length * 22}`, height: rows.length * 22, role: "img",
        "aria-label": `${card.querySelector("h2").textContent}: ${rows.map((row) => `${row.name} ${row.text}`).join(", ")}`,
      });
      rows.forEach((row, i) => {
        const length = row.value ? Math.max((across * row.value) / most, 1) : 0;
        svg("text", { x: left - 8, y: i * 22 + 15, "text-anchor": "end" }, drawing, row.name);
        const bar = svg("rect", { x: left, y: i * 22 + 3, width: length, height: 16, rx: 2, class: `bar ${row.style}` }, drawing);
        svg("title", {}, bar, `${row.name}: ${row.text}`);
        svg("text", { x: left + length + 6, y: i * 22 + 15, class: "value" }, drawing, row.text);
      });
      if (picture) picture.replaceWith(drawing);
      else plot.append(drawing);
      picture = drawing;
    };
    drawn(plot, draw);
  };

  const middle = data.start.map((start, i) => start + data.length[i] / 2);
  const end = data.start.length ? data.start[data.start.length - 1] + data.length[data.length.length - 1] : 1;
  const time = {
    x: middle, nameX: "seconds since measuring began", tickX: (value) => String(Number(value.toPrecision(6))),
    scaleX: (count) => linear(0, end, Math.max(count, 2)),
    span: (i) => [data.start[i], data.start[i] + data.length[i]],
    tipX: (i) => `${seconds(data.start[i])} to ${seconds(data.start[i] + data.length[i])}`,
  };
  lines("latency", {
    ...time, formatY: duration, canBeLog: true, none: "No call succeeded, so there is no latency.",
    series: [
      { name: "50 %", y: data.p50, style: "blue" },
      { name: "99 %", y: data.p99, style: "orange" },
      { name: "slowest", y: data.max, style: "purple max" },
    ],
  });
  const failed = data.failed.some((value) => value > 0);
  lines("throughput", {
    ...time, formatY: number, none: "No call ended.",
    series: [
      { name: "OK a second", y: data.ok, style: "green", area: true },
      ...(failed ? [{ name: "failed a second", y: data.failed, style: "red", area: true }] : []),
    ],
  });
  lines("messages", {
    ...time, formatY: number, none: "No message was sent.",
    series: [
      { name: "sent a second", y: data.sent, style: "blue" },
      { name: "received a second", y: data.received, style: "orange" },
    ],
  });

  // 90 %, 99 %, 99.9 % at equal distances. 100 % would be infinitely far: it ends where the last call is.
  const far = (value) => -Math.log10(1 - value / 100);
  const last = Math.max(Math.log10(Math.max(data.total, 2)), 1);
  const nines = data.percentages.map((value) => Math.min(far(value), last));
  const named = [0, 50, 75, 90, 95, 99, 99.9, 99.99, 99.999, 99.9999, 99.99999].filter((value) => far(value) <= last);
  lines("percentiles", {
    x: nines, nameX: "calls, in per cent, by their distance to 100", formatY: duration, canBeLog: true,
    none: "No call succeeded, so there is no latency.",
    scaleX: () => ({ place: (value) => value / last, ticks: named.map(far) }),
    tickX: (value) => String(Number((100 - 100 * 10 ** -value).toPrecision(9))),
    tipX: (i) => `${percentage(data.percentages[i])} of the calls`,
    series: [{ name: "within", y: data.values, style: "blue" }],
  });

  bars("histogram", data.marks.map((mark, i) => ({
    name: `to ${duration(mark)}`, value: data.counts[i], text: data.counts[i].toLocaleString("en"), style: "blue",
  })), "No call succeeded, so there is no latency.");
  bars("codes", data.codes.map((code, i) => ({
    name: code, value: data.calls[i], text: data.calls[i].toLocaleString("en"), style: code === "OK" ? "green" : "red",
  })), "No call ended.");
})();
