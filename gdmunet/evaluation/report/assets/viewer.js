"use strict";
// Whole volumes side by side, with one crosshair: four NiiVue screens (WebGL 2) that follow each other.

const VIEWER = { screens: [], number: null, sliders: [], opening: null };

function viewerCases() {
  return REPORT.cases.map((entry, number) => ({ entry, number })).filter(({ entry }) => entry.volumes);
}

async function loadNiivue() {
  if (window.niivue) return;
  let source = "niivue.umd.js";
  if (!REPORT.server) {
    const code = await inflate(document.getElementById("niivue-code").textContent);
    source = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  }
  await new Promise((resolve, reject) => {
    document.head.append(element("script", { src: source, onload: resolve, onerror: () => reject(new Error("the viewer's code did not load")) }));
  });
}

async function volumeBytes(volumes, number, kind) {
  const name = kind === "prediction" || kind === "error" ? `${kind}-${trainerOf(VIEWER.slices)}` : kind;
  if (!REPORT.server) return volumes[name] ? bytesOf(volumes[name]).buffer : null;
  const answer = await fetch(`volume/${number}/${name}`);
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(await answer.text());
  return answer.arrayBuffer();
}

async function makeScreens(box) {
  for (const kind of KINDS) {
    const canvas = element("canvas", { "aria-label": `${kind}: three planes`, tabindex: "0" });
    const caption = element("figcaption", {}, kindName(kind));
    const figure = element("figure", {}, caption, element("div", { class: "screen" }, canvas));
    box.append(figure);
    const view = new niivue.Niivue({
      isRadiologicalConvention: true, dragAndDropEnabled: false, isResizeCanvas: true, loadingText: "", logLevel: "silent",
      backColor: [0, 0, 0, 1], crosshairColor: [0.22, 0.83, 0.33, 0.9], crosshairWidth: 0.6, multiplanarForceRender: false,
      multiplanarShowRender: niivue.SHOW_RENDER.NEVER, multiplanarLayout: niivue.MULTIPLANAR_TYPE.COLUMN, isColorbar: false,
    });
    await view.attachToCanvas(canvas);
    view.addColormap("error", {
      R: DIVERGING.map((c) => c[0]), G: DIVERGING.map((c) => c[1]), B: DIVERGING.map((c) => c[2]),
      A: DIVERGING.map(() => 255), I: DIVERGING.map((_, k) => k),
    });
    view.setSliceType(niivue.SLICE_TYPE.MULTIPLANAR);
    const screen = { kind, view, caption, figure };
    view.onLocationChange = () => follow(screen);
    canvas.addEventListener("keydown", (event) => moveByKey(event, screen));
    VIEWER.screens.push(screen);
  }
}

// All screens show the same place: they lie on one grid, so shares of the volume are enough.
function goTo(place, origin) {
  for (const screen of VIEWER.screens) {
    if (!screen.view.volumes.length) continue;
    if (screen !== origin) {
      screen.view.scene.crosshairPos = place;
      if (origin) screen.view.scene.pan2Dxyzmm = [...origin.view.scene.pan2Dxyzmm];
      screen.view.drawScene();
    }
    const [x, y, z] = screen.view.frac2vox(place);
    const value = screen.view.volumes[0].getValue(x, y, z);
    const unit = screen.kind === "condition" && !REPORT.comparable ? "" : UNIT;
    screen.caption.textContent = `${kindName(screen.kind)}: ${short(value)}${unit}`;
  }
  const shape = shapeOf();
  VIEWER.sliders.forEach((one, axis) => one.set(Math.round(place[axis] * shape[axis] - 0.5)));
}

let following = false;
function follow(screen) {
  if (following || !screen.view.volumes.length) return;
  following = true;
  try {
    goTo([...screen.view.scene.crosshairPos], screen);
  } finally {
    following = false;
  }
}

function shapeOf() {
  const loaded = VIEWER.screens.find((screen) => screen.view.volumes.length);
  return loaded ? loaded.view.volumes[0].dimsRAS.slice(1, 4) : [1, 1, 1];
}

function moveByKey(event, screen) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 1], ArrowDown: [1, -1], PageUp: [2, 1], PageDown: [2, -1] };
  if (!moves[event.key] || !screen.view.volumes.length) return;
  event.preventDefault();
  event.stopPropagation();
  const [axis, step] = moves[event.key];
  const place = [...screen.view.scene.crosshairPos];
  const count = shapeOf()[axis];
  // Left of the patient is on the right-hand side of the screen.
  place[axis] = Math.max(0.5 / count, Math.min(1 - 0.5 / count, place[axis] + (axis === 0 ? -step : step) / count));
  following = true;
  goTo(place, null);
  following = false;
}

function windowViewer() {
  for (const { kind, view } of VIEWER.screens) {
    const volume = view.volumes[0];
    if (!volume || !VIEWER.slices) continue;
    const [low, high] = windowOf(VIEWER.slices, kind);
    if (volume.cal_min === low && volume.cal_max === high) continue;
    volume.cal_min = low;
    volume.cal_max = high;
    view.updateGLVolume();
  }
}

function reopenViewer() {
  if (VIEWER.number !== null) openCase(VIEWER.number);
}

async function openCase(number) {
  const entry = REPORT.cases[number];
  VIEWER.number = number;
  VIEWER.select.value = String(number);
  VIEWER.status.textContent = `loading ${entry.name} …`;
  if (!VIEWER.screens.length) {
    await loadNiivue();
    await makeScreens(VIEWER.box);
  }
  const slices = await load("slices", number);
  if (slices.problem) throw new Error(slices.problem);
  VIEWER.slices = slices;
  const volumes = REPORT.server ? null : await load("volumes", number);
  for (const { kind, view, figure } of VIEWER.screens) {
    while (view.volumes.length) view.removeVolumeByIndex(0);
    const bytes = await volumeBytes(volumes, number, kind);
    figure.hidden = bytes === null;
    if (bytes === null) continue;
    const [low, high] = windowOf(slices, kind);
    view.addVolume(await niivue.NVImage.loadFromUrl({
      url: bytes, name: `${kind}.nii.gz`, colormap: kind === "error" ? "error" : "gray", cal_min: low, cal_max: high,
    }));
  }
  const shape = shapeOf();
  VIEWER.sliders.forEach((one, axis) => one.limit(shape[axis]));
  following = true;
  goTo([0.5, 0.5, 0.5], null);
  following = false;
  const coarse = REPORT.server ? "" : " Coarse volumes of this page; gdm_view shows every voxel.";
  VIEWER.status.textContent = `${entry.name}: ${numbersOf(entry)}.${coarse}`;
}

function openViewer(number) {
  // One at a time: a second call waits for the first.
  VIEWER.opening = (VIEWER.opening || Promise.resolve()).then(() => openCase(number)).catch((error) => {
    VIEWER.status.textContent = `The viewer does not work here: ${error.message}`;
  });
  document.getElementById("viewer").scrollIntoView();
  VIEWER.select.focus({ preventScroll: true });
}

function placeSlider(name, axis) {
  const output = element("output");
  const input = element("input", { type: "range", min: 0, max: 0, value: 0, name, "aria-label": `${name} slice` });
  const say = () => { output.textContent = `${+input.value + 1} of ${+input.max + 1}`; };
  input.addEventListener("input", () => {
    const screen = VIEWER.screens.find((one) => one.view.volumes.length);
    if (!screen) return;
    const place = [...screen.view.scene.crosshairPos];
    place[axis] = (+input.value + 0.5) / (+input.max + 1);
    following = true;
    goTo(place, null);
    following = false;
  });
  return {
    box: element("label", {}, name, input, output),
    set: (value) => { input.value = value; say(); },
    limit: (count) => { input.max = count - 1; say(); },
  };
}

function startViewer() {
  const section = document.getElementById("viewer");
  if (!section) return;
  const cases = viewerCases();
  if (!cases.length) {
    section.append(element("p", {}, "This page holds no volumes: gdm_view shows them."));
    return;
  }
  if (!document.createElement("canvas").getContext("webgl2")) {
    section.append(element("p", {}, "The viewer needs WebGL 2, which this browser does not offer; the slices above do not."));
    return;
  }
  VIEWER.select = element("select", { "aria-label": "case", onchange: () => openViewer(+VIEWER.select.value) },
    element("option", { value: "", disabled: true, selected: true }, "choose a case"),
    ...cases.map(({ entry, number }) => element("option", { value: number }, entry.name)));
  VIEWER.status = element("p", { role: "status" }, "Choose a case. Click, scroll or use the arrow keys and Page Up, Page Down: " +
    "the crosshairs of all four go along. The windows above hold here as well.");
  VIEWER.box = element("div", { class: "screens" });
  // Axes of the volume in the order of NiiVue: left to right, back to front, feet to head.
  VIEWER.sliders = [["sagittal", 0], ["coronal", 1], ["axial", 2]].map(([name, axis]) => placeSlider(name, axis));
  const places = element("div", { class: "places" }, element("label", {}, "case", VIEWER.select),
    ...[...VIEWER.sliders].reverse().map((one) => one.box));
  section.append(places, VIEWER.status, VIEWER.box);
}

startViewer();
