// Adds to drawings that are complete without it: values under the pointer, lines on and off.
"use strict";

function number(value) {
  return value === null || value === undefined ? "" : String(Number(value.toPrecision(4)));
}

function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle; else high = middle;
  }
  return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
}

function enliven(figure) {
  const drawing = figure.querySelector(":scope > svg");
  const {axis, lines} = JSON.parse(figure.querySelector("script").textContent);
  const cursor = drawing.querySelector(".cursor");
  const where = figure.querySelector("figcaption output");
  const entries = [...figure.querySelectorAll(".legend button")];
  const map = axis.log ? Math.log10 : (x) => x;
  const span = map(axis.high) - map(axis.low);

  function read(event) {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width * axis.width - axis.left) / axis.length;
    const value = map(axis.low) + Math.min(Math.max(at, 0), 1) * span;
    const x = axis.log ? 10 ** value : value;
    let best = null;
    for (const entry of entries) {
      const line = lines[entry.dataset.line];
      if (!line.x.length) continue;
      const i = nearest(line.x, x);
      const half = line.high.length && line.high[i] !== null ? (line.high[i] - line.low[i]) / 2 : null;
      entry.querySelector("output").value =
        number(line.y[i]) + (half === null ? "" : " ± " + Number(half.toPrecision(2)));
      if (best === null || Math.abs(line.x[i] - x) < Math.abs(best - x)) best = line.x[i];
    }
    if (best === null) return;
    const place = axis.left + (map(best) - map(axis.low)) / span * axis.length;
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    where.value = figure.dataset.x + " " + number(best);
  }

  function clear() {
    cursor.setAttribute("x1", -9);
    cursor.setAttribute("x2", -9);
    where.value = "";
    for (const entry of entries) entry.querySelector("output").value = "";
  }

  drawing.addEventListener("pointermove", read);
  drawing.addEventListener("pointerdown", read);
  drawing.addEventListener("pointerleave", clear);
  for (const entry of entries) {
    entry.addEventListener("click", () => {
      const on = entry.getAttribute("aria-pressed") !== "true";
      entry.setAttribute("aria-pressed", on);
      for (const n of entry.dataset.lines.split(" ")) {
        for (const part of drawing.querySelectorAll(`[data-line="${n}"]`)) part.classList.toggle("off", !on);
      }
    });
  }
}

document.querySelectorAll("figure").forEach(enliven);

// A page that is served while runs go on fetches itself anew; lines that are off stay off.
const seconds = Number(document.body.dataset.refresh);

function off() {
  const entries = [...document.querySelectorAll('figure .legend button[aria-pressed="false"]')];
  return new Set(entries.map(named));
}

function named(entry) {
  return entry.closest("figure").dataset.name + " " + entry.querySelector("span").textContent;
}

async function refresh() {
  let next = seconds;
  try {
    if (!document.hidden) {
      const answer = await fetch(location.href, {cache: "no-store"});
      const found = new DOMParser().parseFromString(await answer.text(), "text/html");
      const without = off();
      for (const part of ["header", "main"]) {
        document.querySelector(part).replaceWith(document.adoptNode(found.querySelector(part)));
      }
      document.title = found.title;
      document.querySelectorAll("figure").forEach(enliven);
      for (const entry of document.querySelectorAll("figure .legend button")) {
        if (without.has(named(entry))) entry.click();
      }
      next = Number(found.body.dataset.refresh);
    }
  } catch {
    document.querySelector("header .live").textContent = "Nobody serves this page any more.";
  }
  setTimeout(refresh, 1000 * next);
}

if (seconds) setTimeout(refresh, 1000 * seconds);
