// What runs in a report: filters, tables, theme, downloads. charts.js draws; the data is the JSON in #data.
//
// What stays put, for tests and for whoever scripts a report:
//   html[data-ready=yes]           once everything but the charts is there and works
//   html[data-theme=light|dark]    after a press of button[data-theme-toggle]; without it the system's choice holds
//   sections                       #summary #fronts #claims #cpu-gpu #devices #doubts #reproduce #raw
//   figure[data-chart=front|slope|pace]   gets data-drawn=yes once drawn, which is when it comes into view;
//                                  its .plot is Plotly's; its button[data-zoom=in|out|reset] zoom
//   #fronts                        select[data-filter=evidence|device|precision|family|runtime|threads],
//                                  button[data-action=clear], #cells-count (data-shown, data-total),
//                                  figure[data-chart=front][data-front=N] (data-shown: its points; hidden where 0),
//                                  details#more-fronts has those that are folded away at first,
//                                  #cells tbody tr[data-cell], th button[data-sort], #cells-pager
//   #claims                        select[data-filter=verdict|paper], input[data-filter=text], button[data-action=clear],
//                                  #claims-count (data-shown, data-total), details.claim[data-claim][data-verdict][data-paper]
//   #cpu-gpu                       figure[data-chart=slope][data-pair=N]
//   #devices                       select[data-filter=machine], #campaigns tbody tr[data-campaign], its button unfolds
//                                  tr.unfolded; #campaigns-pager
//   #reproduce                     #artifacts tbody tr, #artifacts-pager
//   pagers                         button[data-page=previous|next], .where
//   #raw                           a[data-download=csv]
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const PAGE_ROWS = 25;
const EVIDENCE = { ours: "measured here", others: "measured by others", printed: "printed in the paper" };

function rowsOf(table) {
  return table.rows.map((row, index) => Object.fromEntries([["index", index], ...table.columns.map((name, i) => [name, row[i]])]));
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A figure with as many decimals as its interval needs, as the terminal's tables have it.
function figure(value, low, high, digits) {
  if (value === null || value === undefined) return "-";
  let places = digits ?? Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1)));
  const known = low !== null && low !== undefined && high !== null && high !== undefined;
  if (digits === undefined && known && high > low) places = Math.max(places, -Math.floor(Math.log10((high - low) / 2)));
  places = Math.min(places, 6);
  return value.toFixed(places) + (known ? ` [${low.toFixed(places)}, ${high.toFixed(places)}]` : "");
}

function chance(share) {
  if (share === null || share === undefined) return "-";
  return share < 0.01 ? "<0.01" : share > 0.99 ? ">0.99" : share.toFixed(2);
}

// Rows of data as a table, a page of them at a time. A column: key, title, text(row) or node(row), sort(row), number, wide.
class Paged {
  static every = [];

  constructor(id, columns, rows, mark) {
    Object.assign(this, { id, columns, rows, mark, page: 0, by: null, down: false });
    this.table = document.getElementById(id);
    this.pager = document.getElementById(`${id}-pager`);
    this.body = element("tbody");
    const heads = columns.map((column, index) => {
      const head = element("th", { scope: "col", ...(column.number ? { class: "n" } : {}) });
      if (!column.sort) head.append(column.title);
      else {
        const button = element("button", { type: "button", "data-sort": column.key }, column.title);
        button.addEventListener("click", () => this.sort(index, head));
        head.append(button);
      }
      return head;
    });
    this.table.append(element("thead", {}, element("tr", {}, ...heads)), this.body);
    this.where = element("span", { class: "where", "aria-live": "polite" });
    const turn = (step, name, text) => {
      const button = element("button", { type: "button", "data-page": name }, text);
      button.addEventListener("click", () => this.show(this.page + step));
      return button;
    };
    this.buttons = [turn(-1, "previous", "Previous"), turn(1, "next", "Next")];
    this.pager.append(this.buttons[0], this.where, this.buttons[1]);
    this.show(0);
    Paged.every.push(this);
  }

  sort(index, head) {
    this.down = this.by === index ? !this.down : false;
    this.by = index;
    for (const other of this.table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
    this.show(0);
  }

  set(rows) {
    this.rows = rows;
    this.show(0);
  }

  // Show a page of the rows; with `whole`, which is for paper, all of them.
  show(page, whole = false) {
    const most = whole ? Infinity : PAGE_ROWS;
    const pages = Math.max(1, Math.ceil(this.rows.length / most));
    this.page = Math.min(Math.max(page, 0), pages - 1);
    let rows = this.rows;
    if (this.by !== null) {
      const key = this.columns[this.by].sort;
      const last = this.down ? -Infinity : Infinity; // what has no figure comes last, whichever way
      const of = (row) => key(row) ?? last;
      rows = [...rows].sort((a, b) => (of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : 0) * (this.down ? -1 : 1));
    }
    const from = whole ? 0 : this.page * PAGE_ROWS;
    this.body.replaceChildren(...rows.slice(from, from + most).map((row) => this.row(row)));
    const to = Math.min(from + most, rows.length);
    this.where.textContent = rows.length ? `${from + 1} to ${to} of ${rows.length}` : "none";
    this.buttons[0].disabled = this.page === 0;
    this.buttons[1].disabled = this.page === pages - 1;
    this.pager.hidden = pages === 1 && rows.length > 0;
  }

  row(row) {
    const cells = this.columns.map((column) => {
      const inner = column.node ? column.node(row) : column.text(row);
      const kind = column.number ? "n" : column.wide ? "w" : "";
      return element("td", kind ? { class: kind } : {}, inner ?? "");
    });
    return element("tr", this.mark ? { [`data-${this.mark}`]: row.index } : {}, ...cells);
  }
}

const cells = rowsOf(DATA.cells);
let shownCells = cells;

function accuracyNode(cell) {
  if (cell.top1 === null) return element("span", {}, "none");
  const words = cell.kind === "measured" ? "measured" : "published";
  const mark = element("span", { class: `kind ${words}`, title: cell.source }, words);
  return element("span", {}, `${figure(cell.top1, cell.top1_low, cell.top1_high, 1)} `, mark, element("br"), element("small", {}, cell.source));
}

function latencyNode(cell) {
  const mark = element("span", { class: `badge ${cell.evidence}`, "data-evidence": cell.evidence }, EVIDENCE[cell.evidence]);
  return element("span", { title: cell.spread }, `${figure(cell.ms, cell.low, cell.high)} `, element("br"), mark);
}

const BATCH = { key: "batch", title: "batch", text: (c) => String(c.batch), sort: (c) => c.batch, number: true };
const CELL_COLUMNS = [
  { key: "network", title: "network", text: (c) => c.network, sort: (c) => c.network },
  { key: "precision", title: "precision", text: (c) => c.precision, sort: (c) => c.precision },
  { key: "runtime", title: "runtime", text: (c) => [c.runtime, c.provider].filter(Boolean).join(" "), sort: (c) => c.runtime },
  { key: "threads", title: "threads", text: (c) => String(c.threads), sort: (c) => c.threads, number: true },
  ...(cells.some((c) => c.batch !== 1) ? [BATCH] : []),
  { key: "device", title: "device", text: (c) => c.device, sort: (c) => c.device },
  { key: "ms", title: "p50 ms", node: latencyNode, sort: (c) => c.ms, number: true },
  { key: "top1", title: "top-1 %", node: accuracyNode, sort: (c) => c.top1, wide: true },
  { key: "p", title: "P(front)", text: (c) => chance(c.p), sort: (c) => c.p, number: true },
  { key: "standing", title: "standing", text: (c) => c.standing, sort: (c) => c.standing },
  { key: "doubts", title: "doubts", text: (c) => c.doubts, sort: (c) => c.doubts },
];

function value(section, name) {
  return section.querySelector(`[data-filter=${name}]`).value;
}

// Where a filter leaves only fronts that are folded away, they unfold; where it leaves none of them, so goes the fold.
function unfoldFronts(section) {
  const fold = document.getElementById("more-fronts");
  if (!fold) return;
  const shown = [...section.querySelectorAll("figure[data-chart=front]:not([hidden])")];
  const inside = shown.filter((chart) => fold.contains(chart)).length;
  fold.hidden = inside === 0;
  fold.querySelector("summary span").textContent = inside;
  if (inside > 0 && inside === shown.length) fold.open = true;
}

function setUpFronts() {
  const section = document.getElementById("fronts");
  const names = ["evidence", "device", "precision", "family", "runtime", "threads"];
  const table = new Paged("cells", CELL_COLUMNS, cells, "cell");
  const count = document.getElementById("cells-count");
  const apply = () => {
    const wanted = names.map((name) => [name, value(section, name)]).filter(([, text]) => text !== "");
    shownCells = cells.filter((cell) => wanted.every(([name, text]) => String(cell[name]) === text));
    count.textContent = `${shownCells.length} of ${cells.length} cells`;
    count.dataset.shown = shownCells.length;
    count.dataset.total = cells.length;
    table.set(shownCells);
    for (const chart of section.querySelectorAll("figure[data-chart=front]")) {
      const own = shownCells.filter((cell) => cell.front === Number(chart.dataset.front)).length;
      chart.dataset.shown = own;
      chart.hidden = own === 0;
      if (own && chart.dataset.drawn) draw(chart);
    }
    unfoldFronts(section);
  };
  for (const name of names) section.querySelector(`[data-filter=${name}]`).addEventListener("change", apply);
  section.querySelector("[data-action=clear]").addEventListener("click", () => {
    for (const name of names) section.querySelector(`[data-filter=${name}]`).value = "";
    apply();
  });
  apply();
}

function setUpClaims() {
  const section = document.getElementById("claims");
  const claims = [...section.querySelectorAll("details.claim")];
  const count = document.getElementById("claims-count");
  if (!count) return; // the claims could not be read, and the section says why
  const texts = claims.map((claim) => claim.textContent.toLowerCase());
  const inputs = section.querySelectorAll("[data-filter]");
  const apply = () => {
    const [verdict, paper] = [value(section, "verdict"), value(section, "paper")];
    const words = value(section, "text").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    claims.forEach((claim, index) => {
      const fits =
        (!verdict || claim.dataset.verdict === verdict) &&
        (!paper || claim.dataset.paper === paper) &&
        words.every((word) => texts[index].includes(word));
      claim.hidden = !fits;
      shown += fits;
    });
    count.textContent = `${shown} of ${claims.length} claims`;
    count.dataset.shown = shown;
    count.dataset.total = claims.length;
  };
  for (const input of inputs) input.addEventListener("input", apply);
  section.querySelector("[data-action=clear]").addEventListener("click", () => {
    for (const input of inputs) input.value = "";
    apply();
  });
  apply();
}

function campaignDetails(campaign) {
  const inside = element("div", { class: "inside" });
  if (campaign.states.rows.length) {
    const heads = campaign.states.columns.map((title) => element("th", { scope: "col" }, title));
    const rows = campaign.states.rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text))));
    inside.append(element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)));
  } else inside.append(element("p", {}, "The system told nothing of its state."));
  const said = campaign.said.map((line) => element("li", {}, line));
  if (said.length) inside.append(element("ul", {}, ...said));
  if (campaign.pace.length > 2) {
    const caption = "Latency over the campaign's usual one, all models together; above 1 the machine was slower. ";
    const badge = element("span", { class: "badge ours", "data-evidence": "ours" }, "measured here");
    const chart = element(
      "figure", { "data-chart": "pace", "data-campaign": campaign.index },
      element("div", { class: "plot", role: "img", "aria-label": "The machine's pace over the campaign" }),
      element("figcaption", {}, caption, badge),
    );
    inside.append(chart);
    watch(chart);
  }
  if (campaign.command) inside.append(element("pre", { tabindex: "0" }, element("code", {}, campaign.command)));
  return inside;
}

function setUpCampaigns() {
  const section = document.getElementById("devices");
  const campaigns = rowsOf(DATA.campaigns);
  const unfold = (campaign) => {
    const button = element("button", { type: "button", "aria-expanded": "false" }, campaign.campaign);
    button.addEventListener("click", () => {
      const row = button.closest("tr");
      const opened = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!opened));
      if (opened) row.nextElementSibling.remove();
      else row.after(element("tr", { class: "unfolded" }, element("td", { colspan: "7" }, campaignDetails(campaign))));
    });
    return button;
  };
  const plain = (key, title, number = false) => ({ key, title, number, text: (row) => String(row[key] ?? ""), sort: (row) => row[key] });
  const columns = [
    { key: "campaign", title: "campaign", node: unfold, sort: (row) => row.campaign },
    plain("machine", "machine"), plain("device", "device"), plain("started", "started (UTC)"),
    plain("cells", "cells", true), plain("end", "ended"), plain("steps", "steps of speed", true),
  ];
  const table = new Paged("campaigns", columns, campaigns, "campaign");
  const choice = section.querySelector("[data-filter=machine]");
  choice.addEventListener("change", () =>
    table.set(campaigns.filter((campaign) => !choice.value || campaign.machine === choice.value)),
  );
}

function setUpArtifacts() {
  const plain = (key, title) => ({ key, title, text: (row) => row[key] ?? "", sort: (row) => row[key] });
  const hash = { key: "sha256", title: "SHA-256", node: (row) => element("code", { class: "hash" }, row.sha256) };
  new Paged("artifacts", [plain("file", "file"), plain("precision", "precision"), plain("weights", "weights"), hash], rowsOf(DATA.artifacts));
}

// gzip in base64 as text. Browsers have had it since 2023; before them the tables, and the link to the .gz, still work.
async function inflate(base64) {
  const packed = atob(base64.trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i += 1) bytes[i] = packed.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function setUpDownload() {
  const link = document.querySelector("[data-download=csv]");
  if (typeof DecompressionStream === "undefined") return;
  const packed = link.href.slice(link.href.indexOf(",") + 1);
  const name = link.download.replace(/\.gz$/, "");
  link.addEventListener("click", async (event) => {
    if (link.download === name) return; // the click below
    event.preventDefault();
    const text = await inflate(packed);
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
  });
}

function setUpTheme() {
  const root = document.documentElement;
  const button = document.querySelector("[data-theme-toggle]");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const said = () => {
    button.textContent = isDark() ? "Light colours" : "Dark colours";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    said();
    redraw(isDark());
  });
  system.addEventListener("change", () => {
    said();
    redraw(isDark());
  });
  said();
  return isDark;
}

// On paper everything is unfolded, whole and light; on the screen again as it was before.
function setUpPrint(isDark) {
  const root = document.documentElement;
  let before = null;
  window.addEventListener("beforeprint", () => {
    const folds = [...document.querySelectorAll("details:not([open])")];
    before = { folds, theme: root.dataset.theme, pages: Paged.every.map((table) => table.page) };
    for (const fold of folds) fold.open = true;
    for (const table of Paged.every) table.show(0, true);
    root.dataset.theme = "light";
    printCharts(true);
  });
  window.addEventListener("afterprint", () => {
    if (before === null) return;
    for (const fold of before.folds) fold.open = false;
    Paged.every.forEach((table, index) => table.show(before.pages[index]));
    if (before.theme === undefined) delete root.dataset.theme;
    else root.dataset.theme = before.theme;
    printCharts(false, isDark());
    before = null;
  });
}

const isDark = setUpTheme();
setUpFronts();
setUpClaims();
setUpCampaigns();
setUpArtifacts();
setUpDownload();
setUpCharts(isDark());
setUpPrint(isDark);
document.documentElement.dataset.ready = "yes";
