"use strict";
// Sortable tables, and the slices of the cases: decoded from 16-bit data, so that a window acts on true values.

const REPORT = JSON.parse(document.getElementById("report-data").textContent);
const HU = REPORT.unit === "HU";
const PRESETS = [["soft tissue", 40, 400], ["bone", 400, 1800], ["lung", -600, 1500]];
const WINDOW = { mode: "fitted", level: 40, width: 400, error: 0, masked: true, label: 0 };
const UNIT = REPORT.unit ? " " + REPORT.unit : "";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// ---- tables

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const falling = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const sign = falling ? -1 : 1;
    const rows = [...table.tBodies[0].rows];
    const value = (row) => row.cells[column].dataset.value;
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x !== undefined && y !== undefined) return sign * (x - y);
      if (x !== undefined || y !== undefined) return x === undefined ? 1 : -1; // without a number: always last
      return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent, undefined, { numeric: true });
    });
    table.tBodies[0].append(...rows);
  }));
}

// ---- data

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

async function inflate(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The inverse of encoding.pack_plane: low bytes, then high bytes, of the differences along each row.
async function plane(base64, rows, columns) {
  const bytes = await inflate(base64);
  const found = new Int16Array(rows * columns);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0, sum = 0; column < columns; column++, at++) {
      sum = (sum + (bytes[at] | (bytes[at + found.length] << 8))) & 0xffff;
      found[at] = sum;
    }
  }
  return found;
}

async function load(kind, number) {
  if (REPORT.server) {
    const answer = await fetch(`${kind}/${number}`);
    return answer.json();
  }
  return JSON.parse(document.getElementById(`${kind}-${number}`).textContent);
}

async function decode(cut) {
  const planes = await Promise.all([cut.condition, cut.target, ...cut.predictions].map(
    (text) => (text === null ? null : plane(text, cut.rows, cut.columns))));
  const bits = cut.mask === null ? null : await inflate(cut.mask);
  return {
    condition: planes[0], target: planes[1], predictions: planes.slice(2),
    inside: (k) => bits === null || (bits[k >> 3] >> (7 - (k & 7))) & 1,
  };
}

// ---- windows and colours

function windowOf(slices, kind) {
  if (kind === "error") {
    const limit = WINDOW.error || slices.error;
    return [-limit, limit];
  }
  if (kind === "condition" && !REPORT.comparable) return slices.condition_window;
  if (WINDOW.mode === "fitted") return slices.window;
  return [WINDOW.level - WINDOW.width / 2, WINDOW.level + WINDOW.width / 2];
}

// Blue (prediction too low) over white to red (too high).
const DIVERGING = (() => {
  const anchors = [[5, 48, 97], [67, 147, 195], [247, 247, 247], [214, 96, 77], [103, 0, 31]];
  return Array.from({ length: 256 }, (_, k) => {
    const place = (k / 255) * 4;
    const left = Math.min(Math.floor(place), 3);
    return anchors[left].map((value, c) => Math.round(value + (place - left) * (anchors[left + 1][c] - value)));
  });
})();

function paint(canvas, cut, valueAt, [low, high], colours) {
  canvas.width = cut.columns;
  canvas.height = cut.rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(cut.columns, cut.rows);
  const factor = 255 / (high - low);
  for (let k = 0; k < cut.rows * cut.columns; k++) {
    const grey = Math.max(0, Math.min(255, Math.round((valueAt(k) - low) * factor)));
    const [red, green, blue] = colours ? colours[grey] : [grey, grey, grey];
    image.data[4 * k] = red;
    image.data[4 * k + 1] = green;
    image.data[4 * k + 2] = blue;
    image.data[4 * k + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

// Number of the chosen trainer among those that predicted this case; -1 where it did not.
function trainerOf(slices) {
  return slices.labels.indexOf(REPORT.labels[WINDOW.label]);
}

function valuesOf(slices, planes, kind) {
  const [slope, intercept] = kind === "condition" ? slices.condition_scale : slices.scale;
  const prediction = planes.predictions[trainerOf(slices)];
  if (!prediction && (kind === "prediction" || kind === "error")) return () => NaN;
  if (kind === "error") {
    return (k) => (WINDOW.masked && !planes.inside(k) ? 0 : slope * (prediction[k] - planes.target[k]));
  }
  const stored = kind === "prediction" ? prediction : planes[kind];
  return (k) => slope * stored[k] + intercept;
}

function short(value) {
  if (Number.isNaN(value)) return "none";
  return Math.abs(value) >= 10 ? value.toFixed(0) : value.toPrecision(3);
}

// ---- cards

const KINDS = ["condition", "prediction", "target", "error"];
const CARDS = new Map(); // article element to its card

function kindName(kind) {
  if (kind === "condition") return REPORT.condition ? `condition (${REPORT.condition})` : "condition";
  if (kind === "target") return REPORT.target ? `target (${REPORT.target})` : "target";
  return kind === "error" ? "error: prediction − target" : kind;
}

function numbersOf(entry) {
  return entry.numbers[REPORT.labels[WINDOW.label]] || "";
}

function makeCard(entry, number) {
  const numbers = element("p", { class: "numbers" });
  const head = element("header", {}, element("h3", {}, entry.name), numbers);
  if (entry.volumes) {
    head.append(element("button", { type: "button", class: "show", onclick: () => openViewer(number) }, "Open in the viewer"));
  }
  const body = element("div");
  const readout = element("output", { class: "readout", "aria-live": "off" });
  const article = element("article", { class: "case", "aria-label": `case ${entry.name}` }, head, body, readout);
  CARDS.set(article, { entry, number, numbers, body, readout, shown: null });
  numbers.textContent = numbersOf(entry);
  if (entry.problem) body.append(element("p", {}, entry.problem));
  // Room for the pictures before they are there, so that the page does not jump while it is scrolled.
  if (entry.slices) body.style.minHeight = "40rem";
  return article;
}

function showCard(card) {
  if (!card.entry.slices) return Promise.resolve();
  if (!card.shown) card.drawn = drawCard(card);
  return card.drawn;
}

async function drawCard(card) {
  const turn = {};
  card.shown = turn;
  const slices = await load("slices", card.number);
  if (card.shown !== turn) return;
  if (slices.problem) {
    card.body.replaceChildren(element("p", {}, slices.problem));
    card.body.style.minHeight = "";
    return;
  }
  const planes = await Promise.all(slices.cuts.map(decode));
  if (card.shown !== turn) return;
  const kinds = KINDS.filter((kind) => kind !== "condition" || planes[0].condition);
  const rows = slices.cuts.map((cut, k) => makeRow(card, slices, cut, planes[k], kinds));
  const names = element("div", { class: "names", "aria-hidden": "true" }, ...kinds.map((k) => element("span", {}, kindName(k))));
  card.body.replaceChildren(names, ...rows.map((row) => row.box));
  card.body.style.setProperty("--panels", kinds.length);
  card.body.style.minHeight = "";
  card.shown = { slices, rows };
  paintCard(card);
}

function hideCard(card) {
  if (!card.shown) return;
  card.body.style.minHeight = `${card.body.offsetHeight}px`;
  card.body.replaceChildren();
  card.shown = null;
}

function paintCard(card) {
  card.numbers.textContent = numbersOf(card.entry);
  if (!card.shown || !card.shown.rows) return;
  const { slices, rows } = card.shown;
  for (const { cut, planes, panels } of rows) {
    for (const { kind, canvas } of panels) {
      paint(canvas, cut, valuesOf(slices, planes, kind), windowOf(slices, kind), kind === "error" ? DIVERGING : null);
    }
  }
}

function makeRow(card, slices, cut, planes, kinds) {
  // One scale in mm for the three cuts of a case; a tall one is made narrower.
  const reference = Math.max(...slices.cuts.map((c) => Math.max(c.millimetres[1], c.millimetres[0] / 1.1)));
  const panels = kinds.map((kind) => {
    const canvas = element("canvas", { role: "img", "aria-label": `${cut.name} slice of the ${kind}` });
    const fit = element("div", { class: "fit" }, canvas);
    fit.style.setProperty("--width", `${(100 * cut.millimetres[1]) / reference}%`);
    fit.style.setProperty("--ratio", `${cut.millimetres[1]} / ${cut.millimetres[0]}`);
    const edges = [...cut.edges].map((letter, k) => element("span", { class: `edge ${"lrtb"[k]}`, "aria-hidden": "true" }, letter));
    return { kind, canvas, fit, box: element("div", { class: "panel" }, fit, ...(kind === kinds[0] ? edges : [])) };
  });
  const label = `${cut.name} slice ${cut.index + 1} of ${cut.count}; arrow keys move the crosshair`;
  const box = element("div", { class: "row", tabindex: "0", role: "group", "aria-label": label }, ...panels.map((p) => p.box));
  const place = { row: cut.rows >> 1, column: cut.columns >> 1 };
  const point = (row, column) => {
    place.row = Math.max(0, Math.min(cut.rows - 1, row));
    place.column = Math.max(0, Math.min(cut.columns - 1, column));
    box.style.setProperty("--x", `${(100 * (place.column + 0.5)) / cut.columns}%`);
    box.style.setProperty("--y", `${(100 * (place.row + 0.5)) / cut.rows}%`);
    const k = place.row * cut.columns + place.column;
    const values = kinds.map((kind) => `${kind} ${short(valuesOf(slices, planes, kind)(k))}${
      kind === "condition" && !REPORT.comparable ? "" : UNIT}`);
    card.readout.textContent = `${cut.name} ${cut.index + 1} of ${cut.count}, row ${place.row + 1}, column ${
      place.column + 1}: ${values.join(" · ")}`;
  };
  for (const { fit } of panels) {
    fit.addEventListener("pointermove", (event) => {
      const area = fit.getBoundingClientRect();
      box.classList.add("pointed");
      point(Math.floor(((event.clientY - area.top) / area.height) * cut.rows),
        Math.floor(((event.clientX - area.left) / area.width) * cut.columns));
    });
  }
  box.addEventListener("pointerleave", () => box.classList.remove("pointed"));
  box.addEventListener("focus", () => point(place.row, place.column));
  box.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] };
    if (!moves[event.key]) return;
    event.preventDefault();
    point(place.row + moves[event.key][0], place.column + moves[event.key][1]);
  });
  return { box, cut, planes, panels };
}

// ---- controls

let painting = false;
function repaint() {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    CARDS.forEach(paintCard);
    if (typeof windowViewer === "function") windowViewer();
  });
}

function slider(name, minimum, maximum, step, value, format, change) {
  const output = element("output", {}, format(value));
  const input = element("input", { type: "range", min: minimum, max: maximum, step, value, name, "aria-label": name });
  input.addEventListener("input", () => {
    output.textContent = format(+input.value);
    change(+input.value);
    repaint();
  });
  const set = (to) => {
    input.value = to;
    output.textContent = format(to);
  };
  return { box: element("label", { class: "slider" }, name, input, output), set };
}

function makeControls() {
  const bar = element("div", { class: "controls", role: "group", "aria-label": "how the pictures are shown" });
  const sliders = {};
  const choose = (mode, level, width) => {
    WINDOW.mode = mode;
    if (width) {
      Object.assign(WINDOW, { level, width });
      sliders.level.set(level);
      sliders.width.set(width);
    }
    repaint();
  };
  const presets = element("fieldset", {}, element("legend", {}, "Window"));
  const option = (name, mode, level, width, checked) => presets.append(element("label", { class: "preset" },
    element("input", { type: "radio", name: "window", value: mode, checked, onchange: () => choose(mode, level, width) }),
    element("span", {}, name)));
  const clear = () => {
    WINDOW.mode = "own";
    presets.querySelectorAll("input").forEach((input) => { input.checked = false; });
  };
  if (HU) {
    PRESETS.forEach(([name, level, width], k) => option(name, name, level, width, k === 0));
    option("fitted", "fitted", 0, 0, false);
    const hounsfield = (value) => `${value} HU`;
    sliders.level = slider("level", -1000, 2000, 10, 40, hounsfield, (value) => { clear(); WINDOW.level = value; });
    sliders.width = slider("width", 20, 4000, 20, 400, hounsfield, (value) => { clear(); WINDOW.width = value; });
    sliders.error = slider("error ±", 0, 1000, 20, 200, (v) => (v ? hounsfield(v) : "fitted"), (v) => { WINDOW.error = v; });
    Object.assign(WINDOW, { mode: PRESETS[0][0], error: 200 });
    bar.append(presets, sliders.level.box, sliders.width.box, sliders.error.box);
  } else {
    bar.append(element("span", {}, "Grey values from the 0.5 % to the 99.5 % quantile of each target"));
  }
  const bars = DIVERGING.filter((_, k) => k % 15 === 0).map((c) => `rgb(${c})`).join(",");
  const legend = element("span", { class: "bar", role: "img", "aria-label": "blue: too low, white: right, red: too high" });
  legend.style.background = `linear-gradient(90deg,${bars})`;
  bar.append(element("label", {}, "too low", legend, "too high"));
  bar.append(element("label", {}, element("input", { type: "checkbox", checked: true,
    onchange: (event) => { WINDOW.masked = event.target.checked; repaint(); } }), "error inside the mask only"));
  if (REPORT.labels.length > 1) {
    const select = element("select", { "aria-label": "trainer", onchange: (event) => {
      WINDOW.label = +event.target.value;
      repaint();
      if (typeof reopenViewer === "function") reopenViewer();
    } }, ...REPORT.labels.map((label, k) => element("option", { value: k }, label)));
    bar.append(element("label", {}, "trainer", select));
  }
  return bar;
}

function makeOrder(list) {
  const orders = { alternating: `worst and best first, by ${REPORT.order}`, worst: `worst first, by ${REPORT.order}`,
    best: `best first, by ${REPORT.order}`, name: "by name" };
  const score = (card) => {
    const badness = card.entry.badness[REPORT.labels[WINDOW.label]];
    return typeof badness === "number" ? -badness : Infinity;
  };
  const compare = {
    alternating: (a, b) => a.number - b.number,
    worst: (a, b) => score(a) - score(b),
    best: (a, b) => (score(a) === Infinity ? 1 : score(b) === Infinity ? -1 : score(b) - score(a)),
    name: (a, b) => a.entry.name.localeCompare(b.entry.name, undefined, { numeric: true }),
  };
  const select = element("select", { onchange: () => {
    const articles = [...CARDS.keys()].sort((a, b) => compare[select.value](CARDS.get(a), CARDS.get(b)));
    list.append(...articles);
  } }, ...Object.entries(orders).map(([value, text]) => element("option", { value }, text)));
  const search = element("input", { type: "search", size: "14", oninput: () => CARDS.forEach((card, article) => {
    article.hidden = !card.entry.name.toLowerCase().includes(search.value.toLowerCase());
  }) });
  return [element("label", {}, "order", select), element("label", {}, "name contains", search)];
}

function start() {
  const section = document.getElementById("cases");
  if (!section) return;
  const list = element("div");
  const shown = REPORT.cases.map((entry, number) => ({ entry, number })).filter(({ entry }) => entry.slices || entry.problem);
  list.append(...shown.map(({ entry, number }) => makeCard(entry, number)));
  const bar = makeControls();
  if (shown.length > 1) bar.append(...makeOrder(list));
  const without = REPORT.cases.length - shown.length;
  const text = without ? `${without} of ${REPORT.cases.length} cases are not shown here, to keep the page small or because ` +
    "volumes are missing; gdm_view shows every case." : "";
  document.getElementById("pictures").prepend(bar);
  section.append(...(text ? [element("p", {}, text)] : []), list);
  const watch = new IntersectionObserver((entries) => entries.forEach((seen) => {
    const card = CARDS.get(seen.target);
    if (seen.isIntersecting) showCard(card).catch((error) => card.body.replaceChildren(element("p", {}, String(error))));
    else if (!printing) hideCard(card);
  }), { rootMargin: "1200px 0px" });
  CARDS.forEach((_, article) => watch.observe(article));
}

// Slices are decoded near what is seen alone; paper shows every case, and a browser does not wait for one that is late.
let printing = false;

async function printAll() {
  printing = true;
  await Promise.allSettled([...CARDS.values()].map(showCard));
  await new Promise(requestAnimationFrame);
  window.print();
}

addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "p") return;
  event.preventDefault();
  printAll();
});
addEventListener("beforeprint", () => {
  printing = true;
  CARDS.forEach(showCard);
});
addEventListener("afterprint", () => { printing = false; });

start();
