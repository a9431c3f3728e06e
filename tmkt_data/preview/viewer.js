"use strict";
const told = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const SIDES = ["all", "image", "events", "mixed"];
const SPEEDS = [1, 2, 5, 10, 20];
const cells = told.height * told.width;
const hasImages = told.encoders.length > 0;
const state = {
  pair: 0, step: 0, side: hasImages ? "all" : "events", encoder: told.encoder,
  eventSteps: Math.ceil(told.numSteps / 2), speed: 5, timer: null,
};
let unpacked = new Map();  // Of the pair that is shown, by encoder, and its events.

/** Decompress base64 of zlib to bytes. */
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** First event step of the mixed sequence, from 1; one more than there are steps where none is. */
function replacementPoint() {
  return told.numSteps + 1 - state.eventSteps;
}

/** Whether a side shows events at a step: the mixed sequence does from the replacement point on. */
function showsEvents(side, step) {
  return side === "events" || (side === "mixed" && step + 1 >= replacementPoint());
}

function encoderOf(name) {
  return told.encoders.find((encoder) => encoder.name === name);
}

function palette() {
  return told.palettes[document.documentElement.dataset.theme];
}

/** Draw the frame of a side at a step on a canvas, one pixel for each cell. */
function draw(canvas, side, step) {
  const isEvents = showsEvents(side, step);
  const bytes = unpacked.get(isEvents ? "events" : state.encoder);
  const isGray = !isEvents && encoderOf(state.encoder).isGray;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(told.width, told.height);
  const planes = isGray ? 1 : 2;
  const start = bytes.length === planes * cells ? 0 : step * planes * cells;
  const colors = palette();
  for (let cell = 0; cell < cells; cell++) {
    const first = bytes[start + cell];
    const color = isGray ? [first, first, first] : eventColor(first / 255, bytes[start + cells + cell] / 255, colors);
    pixels.data.set([color[0], color[1], color[2], 255], 4 * cell);
  }
  context.putImageData(pixels, 0, 0);
}

function eventColor(off, on, colors) {
  const both = Math.min(on, off), ground = 1 - Math.max(on, off);
  return colors.ground.map((level, channel) => Math.round(
    ground * level + (on - both) * colors.on[channel] + (off - both) * colors.off[channel] + both * colors.both[channel]));
}

/** Color of the border: that of the side which the mixed sequence takes. */
function edge(side, step) {
  return side === "mixed" ? `rgb(${palette()[showsEvents(side, step) ? "event" : "image"]})` : "";
}

function caption(side, step) {
  if (side === "image") return `Image, ${state.encoder}`;
  if (side === "events") return "Events";
  return showsEvents(side, step) ? "Mixed (events)" : "Mixed (image)";
}

function showStep() {
  const pair = told.pairs[state.pair], step = state.step;
  for (const side of SIDES.slice(1)) {
    const figure = at(side), canvas = figure.querySelector("canvas");
    figure.hidden = state.side !== "all" && state.side !== side || !hasImages && side !== "events";
    if (figure.hidden) continue;
    draw(canvas, side, step);
    canvas.style.borderColor = edge(side, step);
    figure.querySelector("figcaption").textContent = caption(side, step);
    canvas.setAttribute("aria-label", `${caption(side, step)}, step ${step + 1} of ${told.numSteps}, class ${pair.class}`);
  }
  at("stage").classList.toggle("one", state.side !== "all");
  at("step").value = step + 1;
  const now = `${step + 1} of ${told.numSteps}, from ${pair.times[step]} ${pair.unit}`;
  at("now").textContent = now;
  at("step").setAttribute("aria-valuetext", now);
  for (const button of at("film").querySelectorAll("button")) {
    const isNow = Number(button.dataset.step) === nearestInFilm();
    button.tabIndex = isNow ? 0 : -1;
    if (isNow) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  }
}

function nearestInFilm() {
  return told.film.findLast((step) => step <= state.step);
}

function showFilm() {
  const side = state.side === "all" ? "mixed" : state.side, number = state.eventSteps;
  at("filmTitle").textContent = {
    image: `Image steps, encoder ${state.encoder}`, events: "Event steps", mixed: "Mixed sequence: first image, then events",
  }[side] + (told.film.length < told.numSteps ? ` (${told.film.length} of ${told.numSteps})` : "");
  for (const button of at("film").querySelectorAll("button")) {
    const step = Number(button.dataset.step), canvas = button.querySelector("canvas");
    draw(canvas, side, step);
    canvas.style.borderColor = edge(side, step);
  }
  const point = number ? `t* = ${replacementPoint()}` : "no event step";
  const text = `${(number / told.numSteps).toFixed(2)}: ${number} of ${told.numSteps} event steps, ${point}`;
  at("told").textContent = text;
  at("ratio").value = number;
  at("ratio").setAttribute("aria-valuetext", text);
  at("mixing").hidden = !hasImages || !["all", "mixed"].includes(state.side);
}

function show() {
  showStep();
  showFilm();
}

function goTo(step) {
  state.step = (step + told.numSteps) % told.numSteps;
  showStep();
}

async function openPair(number) {
  const wanted = (number + told.pairs.length) % told.pairs.length, pair = told.pairs[wanted];
  state.pair = wanted;
  const names = ["events", ...Object.keys(pair.images)];
  const frames = await Promise.all(names.map((name) => unpack(name === "events" ? pair.events : pair.images[name])));
  if (state.pair !== wanted) return;
  unpacked = new Map(names.map((name, index) => [name, frames[index]]));
  at("pair").value = wanted;
  at("place").textContent = `${wanted + 1} of ${told.pairs.length}`;
  list(at("pairFacts"), pair.facts.map(([name, value]) => [name, value]));
  show();
}

function chooseSide(side) {
  if (!hasImages) return;
  state.side = side;
  document.querySelector(`input[value="${side}"]`).checked = true;
  show();
}

function chooseEncoder(name) {
  state.encoder = name;
  at("encoder").value = name;
  show();
}

function mix(eventSteps) {
  state.eventSteps = Math.min(Math.max(eventSteps, 0), told.numSteps);
  show();
}

function play(isOn) {
  clearInterval(state.timer);
  state.timer = isOn ? setInterval(() => goTo(state.step + 1), 1000 / state.speed) : null;
  at("play").textContent = isOn ? "Pause" : "Play";
}

function chooseTheme(theme) {
  document.documentElement.dataset.theme = theme;
  at("theme").textContent = theme === "dark" ? "Light colors" : "Dark colors";
  showLegend();
  if (unpacked.size) show();
}

function showLegend() {
  const colors = palette(), swatches = [["ON events", "on", true], ["OFF events", "off", true]];
  if (told.hasBoth) swatches.push(["both", "both", true]);
  if (hasImages) swatches.push(["image step", "image", false], ["event step", "event", false]);
  at("legend").replaceChildren(...swatches.map(([name, key, isFilled]) => {
    const item = element("li"), swatch = element("i");
    swatch.style.borderColor = `rgb(${colors[key]})`;
    swatch.style.background = isFilled ? `rgb(${colors[key]})` : "none";
    item.append(swatch, name);
    return item;
  }));
}

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function option(value, text) {
  const made = element("option", text);
  made.value = value;
  return made;
}

function list(target, rows) {
  target.replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

const KEYS = {
  ArrowLeft: () => goTo(state.step - 1), ArrowRight: () => goTo(state.step + 1),
  Home: () => goTo(0), End: () => goTo(told.numSteps - 1),
  ArrowUp: () => openPair(state.pair - 1), ArrowDown: () => openPair(state.pair + 1),
  " ": () => play(state.timer === null),
};
const LETTERS = {
  "1": () => chooseSide("all"), "2": () => chooseSide("image"), "3": () => chooseSide("events"),
  "4": () => chooseSide("mixed"), "-": () => mix(state.eventSteps - 1), "+": () => mix(state.eventSteps + 1),
  e: () => {
    const number = told.encoders.findIndex((encoder) => encoder.name === state.encoder);
    if (hasImages) chooseEncoder(told.encoders[(number + 1) % told.encoders.length].name);
  },
  t: () => chooseTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
};
const KEYS_TOLD = [
  ["← →", "step"], ["↑ ↓", "pair"], ["space", "play or pause"], ["1 2 3 4", "all, image, events, mixed"],
  ["− +", "mix ratio"], ["e", "encoder"], ["t", "light or dark colors"], ["drag or swipe", "through the steps"],
];

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target, isSelect = target.matches("select");
  // Controls keep the keys that they use themselves.
  const action = isSelect ? undefined
    : LETTERS[event.key] || (target.matches("input") ? undefined : KEYS[event.key]);
  if (!action || event.key === " " && target.matches("button")) return;
  event.preventDefault();
  action();
}

/** Scrub: a drag over the width of the stage goes through all steps. */
function scrub(stage) {
  let start = null;
  stage.addEventListener("pointerdown", (event) => {
    start = { x: event.clientX, step: state.step };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const moved = (event.clientX - start.x) / stage.clientWidth * told.numSteps;
    const step = Math.min(Math.max(start.step + Math.round(moved), 0), told.numSteps - 1);
    if (step !== state.step) goTo(step);
  });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { start = null; });
}

function buildFilm() {
  at("film").replaceChildren(...told.film.map((step) => {
    const item = element("li"), button = element("button"), canvas = element("canvas");
    button.type = "button";
    button.dataset.step = step;
    button.setAttribute("aria-label", `Step ${step + 1}`);
    button.append(canvas, element("span", String(step + 1)));
    button.addEventListener("click", () => { play(false); goTo(step); });
    item.append(button);
    return item;
  }));
}

function build() {
  buildFilm();
  for (const canvas of document.querySelectorAll("canvas")) [canvas.width, canvas.height] = [told.width, told.height];
  at("pair").replaceChildren(...told.pairs.map((pair, index) => option(index, `${pair.id} (class ${pair.class})`)));
  at("encoder").replaceChildren(...told.encoders.map((one) => option(one.name, `${one.name}: ${one.detail}`)));
  at("encoder").value = state.encoder;
  at("speed").replaceChildren(...SPEEDS.map((speed) => option(speed, `${speed} per second`)));
  at("speed").value = state.speed;
  at("step").max = at("ratio").max = told.numSteps;
  at("switches").hidden = !hasImages;
  at("chooser").hidden = told.pairs.length < 2;
  at("facts").replaceChildren(...[...told.facts, ...told.missing].map((fact) => element("li", fact)));
  list(at("keys"), KEYS_TOLD);
  if (!hasImages) document.querySelector("#stage").classList.add("one");
}

function listen() {
  at("previous").addEventListener("click", () => openPair(state.pair - 1));
  at("next").addEventListener("click", () => openPair(state.pair + 1));
  at("pair").addEventListener("change", () => openPair(Number(at("pair").value)));
  at("encoder").addEventListener("change", () => chooseEncoder(at("encoder").value));
  at("step").addEventListener("input", () => goTo(Number(at("step").value) - 1));
  at("ratio").addEventListener("input", () => mix(Number(at("ratio").value)));
  at("play").addEventListener("click", () => play(state.timer === null));
  at("speed").addEventListener("change", () => {
    state.speed = Number(at("speed").value);
    if (state.timer !== null) play(true);
  });
  at("theme").addEventListener("click", LETTERS.t);
  for (const input of document.querySelectorAll('input[name="side"]')) {
    input.addEventListener("change", () => chooseSide(input.value));
  }
  document.addEventListener("keydown", onKey);
  scrub(at("stage"));
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  prefersDark.addEventListener("change", () => chooseTheme(prefersDark.matches ? "dark" : "light"));
  chooseTheme(prefersDark.matches ? "dark" : "light");
}

if (typeof DecompressionStream === "undefined") {
  at("fault").hidden = false;
  at("fault").textContent = "This browser cannot decompress the frames; Chrome 80, Firefox 113, Safari 16.4 or later can.";
} else {
  build();
  listen();
  openPair(0);
}
