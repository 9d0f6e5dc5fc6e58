// What changes on the page: live values, their age, charts, a word when there is news.
"use strict";

const body = document.body;
const staleAfter = Number(body.dataset.stale);
const heartbeat = Number(body.dataset.heartbeat);
const line = document.getElementById("line");
let lastWord = 0;      // when the server last said anything, by this clock
let connected = false;
// Server clock less ours: ages are by the server's clock.
let offset = Number(body.dataset.now) - Date.now() / 1000;

function sayLine(on, words) {
  line.className = "line " + (on ? "on" : "off");
  line.querySelector(".sign").textContent = on ? "●" : "○";
  line.querySelector(".words").textContent = words;
}

function ageText(seconds) {
  const s = Math.max(0, seconds);
  if (s >= 172800) return Math.round(s / 86400) + " d";
  if (s >= 7200) return Math.round(s / 3600) + " h";
  if (s >= 60) return Math.round(s / 60) + " min";
  return Math.round(s) + " s";
}

function age() {
  const now = Date.now() / 1000 + offset;
  let stale = 0, all = 0, oldest = 0;
  for (const element of document.querySelectorAll(".live[data-time]")) {
    const seconds = now - Number(element.dataset.time);
    const old = seconds > staleAfter;
    element.classList.toggle("stale", old);
    if (element.closest(".drawing")) {
      all += 1;
      if (old) { stale += 1; oldest = Math.max(oldest, seconds); }
    }
  }
  for (const element of document.querySelectorAll("[data-age]")) {
    const seconds = now - Number(element.dataset.age);
    const old = seconds > staleAfter;
    element.textContent = ageText(seconds) + (old ? " stale" : "");
    element.classList.toggle("stale", old);
  }
  const caption = document.getElementById("staleness");
  if (caption && all) {
    caption.classList.toggle("warn", stale > 0);
    caption.textContent = stale
      ? stale + " of " + all + " values are stale, the oldest by " + ageText(oldest)
      : "All " + all + " values are fresh";
  }
  if (connected && Date.now() - lastWord > 2000 * heartbeat + 2000) {
    connected = false;
    sayLine(false, "no word from the twin: values may be old");
  }
}

function heard() {
  lastWord = Date.now();
  if (!connected) {
    connected = true;
    sayLine(true, "live");
  }
}

function listen() {
  const source = new EventSource("/events");
  source.addEventListener("open", heard);
  source.addEventListener("beat", (event) => {
    offset = JSON.parse(event.data) - Date.now() / 1000;
    heard();
  });
  source.addEventListener("values", (event) => {
    heard();
    const units = JSON.parse(event.data);
    for (const element of document.querySelectorAll(".live[data-point]")) {
      const points = units[element.dataset.unit];
      const news = points && Object.hasOwn(points, element.dataset.point) && points[element.dataset.point];
      if (news) {
        element.textContent = news.text;
        element.classList.remove("none");
        element.dataset.time = news.time;
      }
    }
    for (const element of document.querySelectorAll("[data-age]")) {
      const shown = element.parentElement.querySelector(".live[data-time]");
      const points = Object.values(units[element.dataset.of] || {});
      if (shown) element.dataset.age = shown.dataset.time;
      else if (points.length) element.dataset.age = Math.max(element.dataset.age, ...points.map((news) => news.time));
    }
    age();
  });
  source.addEventListener("revision", (event) => {
    heard();
    const revision = JSON.parse(event.data);
    if (body.dataset.revision && revision !== body.dataset.revision) offerNews();
  });
  source.addEventListener("error", () => {
    connected = false;
    sayLine(false, "connection lost: values may be old");
  });
  window.addEventListener("pagehide", () => source.close());
}

// A page that somebody is working on is not pulled from under their hands.
function offerNews() {
  if (document.getElementById("news")) return;
  const button = document.createElement("button");
  button.id = "news";
  button.textContent = "There is news: show it";
  button.addEventListener("click", () => window.location.reload());
  body.append(button);
}

// --- charts -----------------------------------------------------------------

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function looks() {
  return {
    measured: { stroke: colour("--ink"), width: 1.6 },
    expected: { stroke: colour("--cool"), width: 1.6, dash: [7, 4] },
    reference: { stroke: colour("--warm"), width: 1.4, dash: [2, 4] },
    band: { stroke: colour("--band"), width: 1 },
  };
}

function draw(place, data) {
  place.replaceChildren();
  if (!data.times.length) {
    const words = document.createElement("p");
    words.className = "calm";
    words.textContent = data.reason;
    place.append(words);
    return null;
  }
  const look = looks();
  const zone = body.dataset.zone;
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const digits = data.unit === "%" ? 1 : 2;
  const values = [...data.series.flatMap((s) => s.values), ...data.levels.map((l) => l.value)].filter((v) => v !== null);
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || 1) * 0.07;
  const first = data.times[0], last = data.times[data.times.length - 1];
  // A date that lies ahead is part of the picture unless it would dwarf it.
  const ahead = data.marks.map((m) => m.time).filter((t) => t > last && t - last < 1.5 * (last - first));
  const end = Math.max(last, ...ahead);
  const local = (time) => uPlot.tzDate(new Date(time * 1000), zone);
  const dates = (u, splits, _axis, _space, step) => splits.map((time) => local(time).toLocaleString("en-GB", step >= 86400 ? { day: "2-digit", month: "short" } : { hour: "2-digit", minute: "2-digit" }));
  const said = (u, v, series, index) => {
    if (v === null || v === undefined) return "–";
    const ends = highs < 0 ? [] : [highs + 1, highs].map((k) => data.series[k].values[index]);
    const range = ends.length && ends.every(Number.isFinite) ? ` (${ends.map((end) => end.toFixed(digits)).join(" to ")})` : "";
    return v.toFixed(digits) + (data.unit ? " " + data.unit : "") + range;
  };
  const bands = [];
  const highs = data.series.findIndex((s) => s.look === "band");
  if (highs >= 0) bands.push({ series: [highs + 1, highs + 2], fill: colour("--band") });

  const options = {
    width: place.clientWidth,
    height: Number(place.dataset.height),
    tzDate: local,
    cursor: { y: false, drag: { x: true, y: false } },
    scales: { x: { range: (u, min, max) => (min === first && max === last ? [first, end + 0.02 * (end - first)] : [min, max]) },
              y: { range: [low - room, high + room] } },
    axes: [{ ...axis, space: 70, size: 30, values: dates }, { ...axis, size: 46 }],
    legend: { live: true, markers: { width: 2, dash: (u, i) => ({ expected: "dashed", reference: "dotted" })[data.series[i - 1].look] || "solid" } },
    bands,
    series: [{ value: (u, time) => (time === null ? "–" : local(time).toLocaleString("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" })) }].concat(
      data.series.map((s) => ({ label: s.label, class: s.look, spanGaps: false, points: { show: data.times.length < 3 }, value: said, ...look[s.look] }))),
    hooks: {
      draw: [(u) => annotate(u, data)],
      // Where nobody points, the legend says the newest.
      ready: [(u) => u.setLegend({ idx: data.times.length - 1 }, false)],
      setCursor: [(u) => { if (u.cursor.idx === null || u.cursor.idx === undefined) u.setLegend({ idx: data.times.length - 1 }, false); }],
    },
  };
  return new uPlot(options, [data.times, ...data.series.map((s) => s.values)], place);
}

// Words stay readable on whatever lies beneath them.
function halo(ctx, words, x, y) {
  const ink = ctx.fillStyle;
  ctx.save();
  ctx.setLineDash([]);
  ctx.lineJoin = "round";
  ctx.lineWidth = 4 * (window.devicePixelRatio || 1);
  ctx.strokeStyle = colour("--panel");
  ctx.strokeText(words, x, y);
  ctx.fillStyle = ink;
  ctx.fillText(words, x, y);
  ctx.restore();
}

function annotate(u, data) {
  const ctx = u.ctx, box = u.bbox, ratio = window.devicePixelRatio || 1;
  ctx.save();
  ctx.font = 11 * ratio + "px system-ui, sans-serif";
  ctx.lineWidth = ratio;
  for (const level of data.levels) {
    const y = u.valToPos(level.value, "y", true);
    if (y < box.top || y > box.top + box.height) continue;
    ctx.strokeStyle = ctx.fillStyle = colour("--soft");
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.beginPath(); ctx.moveTo(box.left, y); ctx.lineTo(box.left + box.width, y); ctx.stroke();
    const under = y - 16 * ratio < box.top;
    ctx.textAlign = "left";
    halo(ctx, level.label, box.left + 6 * ratio, y + (under ? 14 : -5) * ratio);
  }
  for (const mark of data.marks) {
    const x = u.valToPos(mark.time, "x", true);
    ctx.strokeStyle = ctx.fillStyle = colour("--bad");
    ctx.setLineDash([5 * ratio, 3 * ratio]);
    const inside = x >= box.left && x <= box.left + box.width;
    if (inside) { ctx.beginPath(); ctx.moveTo(x, box.top); ctx.lineTo(x, box.top + box.height); ctx.stroke(); }
    const right = !inside || x > box.left + box.width / 2;
    ctx.textAlign = right ? "right" : "left";
    const at = inside ? x + (right ? -6 : 6) * ratio : box.left + box.width - 4 * ratio;
    halo(ctx, (inside ? "◆ " : "") + mark.label + (inside ? "" : " →"), at, box.top + box.height - 8 * ratio);
  }
  ctx.restore();
}

async function chart(place) {
  // A screen reader waits for the words, and a test for the ink.
  place.setAttribute("aria-busy", "true");
  let data;
  try {
    const answer = await fetch(place.dataset.chart);
    data = await answer.json();
    if (!answer.ok) data = { times: [], reason: data.error };
  } catch (error) {
    data = { times: [], reason: "The chart could not be loaded; the twin does not answer." };
  }
  let plot = draw(place, data);
  place.setAttribute("aria-busy", "false");
  if (!plot) return;
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth && place.clientWidth !== width) {
      width = place.clientWidth;
      plot.setSize({ width, height: Number(place.dataset.height) });
    }
  }).observe(place);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plot.destroy();
    plot = draw(place, data);
  });
}

// --- a replay ----------------------------------------------------------------

// At its end, or with another one, the page is another.
async function follow(place) {
  let course = null;
  try {
    course = (await (await fetch("/api/replays")).json()).course;
  } catch (error) {
    return;  // the line above says that the twin does not answer
  }
  if (!course || !course.running) return window.location.reload();
  place.querySelector("[role=status]").textContent = course.words;
  const bar = place.querySelector("progress");
  if (course.days) { bar.max = course.days; bar.value = course.days_done; }
}

const course = document.getElementById("course");
if (course) setInterval(follow, 2000, course);
// On a telephone what comes last is opened by whoever wants it.
if (window.matchMedia("(max-width: 560px)").matches) {
  for (const fold of document.querySelectorAll("details.fold")) fold.open = false;
}
for (const place of document.querySelectorAll("[data-chart]")) chart(place);
age();
setInterval(age, 1000);
listen();
