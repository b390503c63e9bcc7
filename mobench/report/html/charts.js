// The charts, by Plotly, which lies packed in #plotly and is unpacked when the page is idle or a chart comes into view.
"use strict";

const GAP = 10; // pixels from a point to its name, by which Plotly parts them
const LINE = 13; // the height of a name
const MANY = 400; // points of a chart from which their intervals are left to the hover
const ZOOM = 1.6;
const DARK_OF = { "#000000": "#f2f2f2", "#5a5a5a": "#a6a6a6", "#0072B2": "#4aa8e0" }; // what a dark ground hides
const SYMBOLS = { ort: "circle", litert: "square" };
const FILLS = { fp32: "", int8: "-open", fp16: "-dot", "int8-dynamic": "-open-dot" };
const PAPER = { width: 660, height: 270 }; // pixels: what A4 and Letter have between their margins, four charts a page
let dark = false;
let printing = false;
let ready = null;
let seen = null;

function style(name) {
  style.probe ??= document.body.appendChild(element("span", { hidden: "" }));
  style.probe.style.color = `var(${name})`; // a colour as it is in this theme, not as the style sheet words it
  return getComputedStyle(style.probe).color;
}

function tint(colour) {
  return dark ? (DARK_OF[colour] ?? colour) : colour;
}

// Plotly reads a few tags in its texts; a name from a journal must stay a name.
function plain(text) {
  return String(text ?? "").replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function plotly() {
  ready ??= inflate(document.getElementById("plotly").textContent).then((source) => {
    const script = element("script");
    script.textContent = source;
    document.head.append(script);
    document.getElementById("plotly").remove();
  });
  return ready;
}

function layout(changes) {
  const ink = style("--ink");
  const axis = { gridcolor: style("--line"), linecolor: style("--faint"), zeroline: false, automargin: true, fixedrange: coarse() };
  const { xaxis, yaxis, ...rest } = changes;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: 12, color: ink }, margin: { l: 50, r: 14, t: 10, b: 44 },
    hoverlabel: { bgcolor: style("--card"), bordercolor: style("--faint"), font: { color: ink, size: 12 }, align: "left" },
    dragmode: coarse() ? false : "zoom",
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...(printing ? PAPER : { autosize: true }), ...rest,
  };
}

// A finger scrolls the page; there the buttons zoom.
function coarse() {
  return matchMedia("(pointer: coarse)").matches;
}

// Which of some cells no other beats, fastest first: the line through what a filter leaves. P(front) is of all.
function frontOf(points) {
  const sorted = [...points].sort((a, b) => a.ms - b.ms || b.top1 - a.top1);
  let best = -Infinity;
  return sorted.filter((cell) => {
    const leads = cell.top1 > best;
    best = Math.max(best, cell.top1);
    return leads;
  });
}

// A text in lines of so many characters, none of which ends within a word.
function wrap(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines[lines.length - 1];
    if (last && last.length + word.length >= most) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines;
}

function hoverOf(cell, most) {
  const lines = [
    `${cell.precision}; runtime ${cell.runtime} ${cell.provider}; threads ${cell.threads}`,
    `p50 ${figure(cell.ms, cell.low, cell.high)} ms (${EVIDENCE[cell.evidence]}; ${cell.spread})`,
    `top-1 ${figure(cell.top1, cell.top1_low, cell.top1_high, 1)} % (${cell.kind}: ${cell.source})`,
    `P(front) ${chance(cell.p)}; ${cell.standing}`,
    ...(cell.doubts ? [`doubts: ${cell.doubts}`] : []),
    cell.campaign,
  ];
  return [`<b>${plain(cell.network)}</b>`, ...lines.flatMap((line) => wrap(line, most)).map(plain)].join("<br>");
}

function errors(points, middle, low, high) {
  return {
    type: "data", symmetric: false, thickness: 1, width: 2, color: style("--faint"),
    array: points.map((cell) => (cell[high] === null ? 0 : cell[high] - cell[middle])),
    arrayminus: points.map((cell) => (cell[low] === null ? 0 : cell[middle] - cell[low])),
  };
}

function drawFront(chart, plot) {
  const points = shownCells.filter((cell) => cell.front === Number(chart.dataset.front));
  const line = frontOf(points);
  const bars = points.length <= MANY;
  const most = Math.min(64, Math.floor(plot.clientWidth / 8)); // characters of a line that stay within the chart
  const marks = {
    x: points.map((cell) => cell.ms), y: points.map((cell) => cell.top1), mode: "markers", type: "scatter",
    text: points.map((cell) => hoverOf(cell, most)), hovertemplate: "%{text}<extra></extra>",
    marker: {
      size: 9, line: { width: 1.5 }, color: points.map((cell) => tint(cell.colour)),
      symbol: points.map((cell) => (SYMBOLS[cell.runtime] ?? "diamond") + (FILLS[cell.precision] ?? "-open")),
    },
    ...(bars ? { error_x: errors(points, "ms", "low", "high"), error_y: errors(points, "top1", "top1_low", "top1_high") } : {}),
  };
  const steps = {
    x: line.map((cell) => cell.ms), y: line.map((cell) => cell.top1), mode: "lines", type: "scatter", hoverinfo: "skip",
    line: { shape: "hv", color: style("--faint"), width: 1.5 },
  };
  const names = {
    x: [], y: [], text: [], textposition: [], mode: "markers+text", type: "scatter", hoverinfo: "skip",
    marker: { size: 14, opacity: 0 }, textfont: { size: 11, color: style("--ink") },
  };
  const size = layout({
    xaxis: {
      type: "log", title: { text: "p50 latency (ms)", standoff: 8 }, nticks: Math.max(3, Math.floor(plot.clientWidth / 130)),
      tickformat: "~g", // whole figures: Plotly's own "2" stands for 0.2 or 20 as well
    },
    yaxis: { title: { text: "top-1 (%)", standoff: 6 } },
  });
  Plotly.react(plot, [steps, marks, names], size, { responsive: true, displayModeBar: false });
  const name = () => nameFront(plot, points, line);
  name();
  if (!plot.dataset.named) {
    plot.dataset.named = "yes";
    plot.on("plotly_relayout", () => plot.nameAgain());
  }
  plot.nameAgain = name;
}

// Names beside the front's points, the surest first, where they cover no point and no other name; the rest hover.
function nameFront(plot, points, line) {
  const { xaxis, yaxis } = plot._fullLayout;
  if (!xaxis || !xaxis._length) return;
  const at = (cell) => [xaxis.l2p(Math.log10(cell.ms)), yaxis.l2p(cell.top1)];
  const taken = points.map((cell) => {
    const [x, y] = at(cell);
    const [high, low] = points.length > MANY ? [y, y] : [yaxis.l2p(cell.top1_high ?? cell.top1), yaxis.l2p(cell.top1_low ?? cell.top1)];
    return [x - 5, Math.min(y - 5, high), x + 5, Math.max(y + 5, low)];
  });
  const pen = (nameFront.pen ??= document.createElement("canvas").getContext("2d"));
  pen.font = "11px system-ui, sans-serif";
  const found = [];
  for (const cell of [...line].sort((a, b) => (b.p ?? 0) - (a.p ?? 0))) {
    const text = `${cell.network} ${cell.precision}`;
    const width = pen.measureText(text).width;
    const [x, y] = at(cell);
    const [left, right, above, below] = [x - GAP - width, x + GAP, y - GAP - LINE, y + GAP];
    const places = { "top left": [left, above], "top right": [right, above], "bottom right": [right, below], "bottom left": [left, below] };
    for (const [place, corner] of Object.entries(places)) {
      const box = [corner[0] - 4, corner[1] - 1, corner[0] + width + 4, corner[1] + LINE + 1];
      const inside = box[0] >= 0 && box[2] <= xaxis._length && box[1] >= 0 && box[3] <= yaxis._length;
      if (!inside || taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
      taken.push(box);
      found.push({ cell, text, place });
      break;
    }
  }
  Plotly.restyle(plot, {
    x: [found.map(({ cell }) => cell.ms)], y: [found.map(({ cell }) => cell.top1)],
    text: [found.map(({ text }) => plain(text))], textposition: [found.map(({ place }) => place)],
  }, [2]);
}

function short(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

// Networks in the order of latency on two devices: a line that crosses another is a pair that changes places.
function drawSlope(chart, plot) {
  const pair = DATA.pairs[Number(chart.dataset.pair)];
  const narrow = plot.clientWidth < 520;
  const count = pair.networks.length;
  const side = (network, key) => `${short(network.network, narrow ? 17 : 32)} ${figure(network[`${key}_ms`])}`;
  const traces = pair.networks.map((network) => ({
    x: [0, 1], y: [network.a_rank, network.b_rank], mode: "lines+markers", type: "scatter",
    line: { color: tint(network.colour), width: network.inverted ? 2.5 : 1.2, dash: network.inverted ? "solid" : "dot" },
    marker: { size: 6, color: tint(network.colour) },
    text: Array(2).fill([
      `<b>${plain(network.network)}</b>`,
      `${figure(network.a_ms, network.a_low, network.a_high)} ms, place ${network.a_rank} of ${count} on ${plain(pair.a)}`,
      `${figure(network.b_ms, network.b_low, network.b_high)} ms, place ${network.b_rank} of ${count} on ${plain(pair.b)}`,
      network.inverted ? `changes places beyond noise with ${network.inverted}` : "changes places with none beyond noise",
    ].join("<br>")),
    hovertemplate: "%{text}<extra></extra>",
  }));
  const label = (network, x, key) => ({
    x, y: network[`${key}_rank`], xanchor: x ? "left" : "right", xshift: x ? 8 : -8, showarrow: false,
    text: plain(side(network, key)), font: { size: narrow ? 9.5 : 11 },
  });
  const height = Math.max(180, 60 + count * (narrow ? 17 : 19));
  plot.style.height = `${height}px`;
  const margin = narrow ? 130 : 220;
  const settings = layout({
    xaxis: { range: [0, 1], tickvals: [0, 1], ticktext: narrow ? ["CPU", "GPU"] : ["CPU (ms)", "GPU (ms)"], side: "top", showgrid: false, fixedrange: true },
    yaxis: { range: [count + 0.7, 0.3], visible: false, fixedrange: true },
    margin: { l: margin, r: margin, t: 30, b: 6 }, dragmode: false, height,
    annotations: pair.networks.flatMap((network) => [label(network, 0, "a"), label(network, 1, "b")]),
  });
  Plotly.react(plot, traces, settings, { responsive: true, displayModeBar: false });
}

function drawPace(chart, plot) {
  const pace = rowsOf(DATA.campaigns)[Number(chart.dataset.campaign)].pace;
  const trace = {
    x: pace.map((window) => window[0]), y: pace.map((window) => window[1]), mode: "lines+markers", type: "scatter",
    marker: { size: 4 }, line: { color: style("--accent"), width: 1.5 }, hovertemplate: "%{x:.0f} s: %{y:.3f}<extra></extra>",
  };
  const settings = layout({ xaxis: { title: { text: "time (s)" } }, yaxis: { title: { text: "pace" } } });
  Plotly.react(plot, [trace], settings, { responsive: true, displayModeBar: false });
}

const DRAWERS = { front: drawFront, slope: drawSlope, pace: drawPace };

function drawNow(chart) {
  DRAWERS[chart.dataset.chart](chart, chart.querySelector(".plot"));
  chart.dataset.drawn = "yes";
}

async function draw(chart) {
  await plotly();
  drawNow(chart);
}

function tintLegend(isDarkNow) {
  dark = isDarkNow;
  for (const chip of document.querySelectorAll("[data-colour]")) chip.style.background = tint(chip.dataset.colour);
}

function redraw(isDarkNow) {
  tintLegend(isDarkNow);
  for (const chart of document.querySelectorAll("figure[data-drawn]")) if (!chart.hidden) draw(chart);
}

function zoom(plot, how) {
  if (how === "reset") return Plotly.relayout(plot, { "xaxis.autorange": true, "yaxis.autorange": true });
  const changed = {};
  for (const name of ["xaxis", "yaxis"]) {
    const [low, high] = plot._fullLayout[name].range;
    const half = ((high - low) / 2) * (how === "in" ? 1 / ZOOM : ZOOM);
    changed[`${name}.range`] = [(low + high) / 2 - half, (low + high) / 2 + half];
  }
  return Plotly.relayout(plot, changed);
}

function watch(chart) {
  for (const button of chart.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => chart.dataset.drawn && zoom(chart.querySelector(".plot"), button.dataset.zoom));
  }
  seen?.observe(chart);
}

function setUpCharts(isDarkNow) {
  tintLegend(isDarkNow);
  if (typeof DecompressionStream === "undefined") {
    for (const chart of document.querySelectorAll("figure[data-chart]")) {
      chart.querySelector(".plot").textContent = "This browser is too old to draw charts; the tables hold the same figures.";
    }
    return;
  }
  seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting || target.dataset.drawn) continue;
      seen.unobserve(target);
      draw(target);
    }
  }, { rootMargin: "200px" });
  for (const chart of document.querySelectorAll("figure[data-chart]")) watch(chart);
  const idle = window.requestIdleCallback ?? ((act) => setTimeout(act, 200));
  idle(() => plotly());
}

// Draw every chart at the size it has on paper and in light colours, at once; afterwards each anew when it is in view.
function printCharts(begins, darkAfterwards) {
  printing = begins;
  tintLegend(begins ? false : darkAfterwards);
  for (const chart of document.querySelectorAll("figure[data-chart]")) {
    if (begins && window.Plotly && chart.offsetParent !== null) drawNow(chart);
    if (begins || !chart.dataset.drawn) continue;
    delete chart.dataset.drawn;
    seen.unobserve(chart);
    seen.observe(chart);
  }
}
