"use strict";
// Asks the service of this page and shows what it answers.

const MOST = 200; // results fetched at once; the slider chooses among them
const part = (id) => document.getElementById(id);
const state = { query: null, matches: [], bits: 0, size: [0, 0], fresh: true, turn: 0, last: -1 };

// ---- asking ----------------------------------------------------------------------------------------------

async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.status === 401 && path !== "/session") {
    await enter();
    return ask(path, options);
  }
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => ({ detail: answer.statusText }));
  if (answer.ok) return content;
  const detail = content.detail;
  throw new Error(typeof detail === "string" ? detail : detail.map((d) => d.msg).join(", "));
}

let entering = null;
function enter() {
  entering ??= new Promise((resolve) => {
    const door = part("door");
    door.addEventListener("close", async () => {
      entering = null;
      const headers = { "Content-Type": "application/json" };
      const body = JSON.stringify({ token: part("token").value });
      try {
        await ask("/session", { method: "POST", headers, body });
      } catch (error) {
        say(error.message);
      }
      part("token").value = "";
      resolve();
    }, { once: true });
    door.showModal();
  });
  return entering;
}

function say(text) {
  part("message").textContent = text ?? "";
  part("message").hidden = !text;
}

/** Run `work`; only the latest question is shown, and whatever goes wrong is said. */
async function attempt(work) {
  const turn = ++state.turn;
  document.body.setAttribute("aria-busy", "true");
  try {
    say(null);
    await work(() => turn === state.turn);
  } catch (error) {
    if (turn === state.turn) say(error.message);
  } finally {
    if (turn === state.turn) document.body.removeAttribute("aria-busy");
  }
}

// ---- searching -------------------------------------------------------------------------------------------

function search() {
  return attempt(async (current) => {
    const { query } = state;
    const [width, height] = state.size;
    const box = shape && width ? shape.map((value, at) => value * (at % 2 ? height : width)) : null;
    const words = new URLSearchParams({ k: MOST, rerank: part("order").value });
    if (query.id !== undefined) words.set("id", query.id);
    if (box) words.set("box", box.map((edge) => edge.toFixed(1)).join(","));
    const found = await ask(`/search?${words}`, { method: "POST", body: query.file });
    if (!current()) return;
    const first = state.fresh;
    state.fresh = false;
    state.matches = found.matches;
    state.bits = found.bits;
    state.size = [found.width, found.height];
    if (found.problem) say(`This photo ${found.problem}.`);
    part("within").max = found.bits;
    const usual = usualReach(found);
    if (first || outlines(found) && usual > Number(part("within").value)) part("within").value = usual;
    part("reach").hidden = false;
    part("box-help").hidden = false;
    showMatches();
  });
}

/** Where the slider starts: the ten nearest, unless that is farther than chance would be, and all regions. */
function usualReach(found) {
  const distances = found.matches.map((match) => match.distance).sort((one, other) => one - other);
  const tenth = Math.min(Math.ceil(distances[Math.min(9, distances.length - 1)] ?? 0), Math.round(found.bits * 3 / 8));
  const outlined = found.matches.filter((match) => match.region).map((match) => Math.ceil(match.distance));
  return Math.max(tenth, ...outlined);
}

function outlines(found) {
  return found.matches.some((match) => match.region);
}

function showMatches() {
  const reach = Number(part("within").value);
  const near = state.matches.filter((match) => match.distance <= reach);
  part("within-value").textContent = reach;
  part("bits").textContent = state.bits;
  part("heading").textContent = "Similar photos";
  const all = near.length === MOST ? `the nearest ${MOST} photos` : plural(near.length, "photo");
  part("found").textContent = near.length ? all : "Nothing so near; move the slider to the right.";
  part("results").replaceChildren(...near.map((match) => item(match, caption(match))));
  part("more").hidden = true;
}

function caption(match) {
  const bits = Number.isInteger(match.distance) ? match.distance : match.distance.toFixed(2);
  if (match.itself) return "the photo itself";
  const points = match.region ? `, ${match.score} points` : "";
  return `${bits} ${bits === 1 ? "bit" : "bits"}${likely(match.probability)}${points}`;
}

/** How likely both show the same thing, where the model knows. */
function likely(probability) {
  if (typeof probability !== "number") return "";
  const share = 100 * probability;
  return `, ${share < 1 ? "under 1" : share > 99 ? "over 99" : Math.round(share)} % the same`;
}

function plural(count, what) {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

function item(photo, text) {
  const image = Object.assign(document.createElement("img"), { src: photo.thumbnail, alt: "", loading: "lazy" });
  const button = document.createElement("button");
  const picture = Object.assign(document.createElement("span"), { className: "picture" });
  picture.append(image);
  if (photo.region) picture.append(outline(photo.region));
  button.append(picture, line("caption", text), line("name", photo.name));
  button.title = photo.name;
  button.setAttribute("aria-label", `${photo.name}, ${text}: find similar photos`);
  button.dataset.id = photo.id;
  button.addEventListener("click", () => open({ id: photo.id }));
  const entry = document.createElement("li");
  entry.append(button);
  return entry;
}

/** The matched region over a picture; both keep the photo's shape in the same square. */
function outline({ corners, width, height }) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawing.setAttribute("aria-hidden", "true");
  for (const name of ["halo", "edge"]) {
    const polygon = document.createElementNS(space, "polygon");
    polygon.setAttribute("points", corners.map((corner) => corner.join(",")).join(" "));
    polygon.setAttribute("class", name);
    drawing.append(polygon);
  }
  return drawing;
}

function line(name, text) {
  return Object.assign(document.createElement("span"), { className: name, textContent: text });
}

// ---- the query -------------------------------------------------------------------------------------------

function open(query, remember = true) {
  choose("search");
  Object.assign(state, { query, fresh: true, size: [0, 0] });
  setBox(null);
  if (part("query").src.startsWith("blob:")) URL.revokeObjectURL(part("query").src);
  part("query").src = query.file ? URL.createObjectURL(query.file) : `/photos/${query.id}/thumbnail?side=1024`;
  part("frame").hidden = false;
  part("invitation").hidden = true;
  part("clear").hidden = false;
  part("keep").hidden = !query.file;
  if (remember) history.pushState(null, "", query.id === undefined ? "#photo" : `#${query.id}`);
  window.scrollTo({ top: 0 });
  return search();
}

function close() {
  Object.assign(state, { query: null, matches: [] });
  setBox(null);
  for (const id of ["frame", "clear", "keep", "reach", "box-help"]) part(id).hidden = true;
  part("invitation").hidden = false;
  part("heading").textContent = "Collection";
  return browse(true);
}

/** What the address names; a photo that was dropped has none, so leaving it shows the collection. */
function follow() {
  const id = /^#(\d+)$/.exec(location.hash);
  return id ? open({ id: Number(id[1]) }, false) : close();
}

function browse(afresh) {
  return attempt(async (current) => {
    const after = afresh ? -1 : state.last;
    const photos = await ask(`/photos?after=${after}&limit=60`);
    if (!current()) return;
    if (afresh) part("results").replaceChildren();
    part("results").append(...photos.map((photo) => item(photo, `photo ${photo.id}`)));
    part("more").hidden = photos.length < 60;
    if (photos.length) state.last = photos.at(-1).id;
    await count();
  });
}

async function count() {
  const health = await ask("/health");
  part("count").textContent = `${plural(health.photos, "photo")}, ${health.bits} bits each`;
}

function keep() {
  return attempt(async () => {
    const form = new FormData();
    form.append("photo", state.query.file, state.query.file.name);
    const added = await ask("/photos", { method: "POST", body: form });
    await count();
    await open({ id: added.id });
    say(added.new ? "Added to the collection." : "This photo is in the collection already.");
  });
}

// ---- the box, in fractions of the picture until it is asked with ------------------------------------------

let shape = null; // [left, top, right, bottom], each 0 to 1

function setBox(fractions) {
  shape = fractions;
  const edge = part("edge");
  edge.hidden = !shape;
  part("whole").hidden = !shape;
  if (shape) {
    const [left, top, right, bottom] = shape.map((value) => `${value * 100}%`);
    Object.assign(edge.style, { left, top, width: `calc(${right} - ${left})`, height: `calc(${bottom} - ${top})` });
  }
}

function drawBox() {
  const box = part("box");
  let start = null;
  let had = false; // whether there was a box before
  const place = (event) => {
    const area = box.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return [within((event.clientX - area.left) / area.width), within((event.clientY - area.top) / area.height)];
  };
  const between = ([x, y]) => [Math.min(start[0], x), Math.min(start[1], y), Math.max(start[0], x), Math.max(start[1], y)];
  box.addEventListener("pointerdown", (event) => {
    had = shape !== null;
    start = place(event);
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => start && setBox(between(place(event))));
  box.addEventListener("pointerup", (event) => {
    if (!start) return;
    const drawn = between(place(event));
    start = null;
    const large = drawn[2] - drawn[0] > 0.03 && drawn[3] - drawn[1] > 0.03;
    setBox(large ? drawn : null);
    if (large || had) search();
  });
  box.addEventListener("pointercancel", () => { start = null; });
  box.addEventListener("keydown", moveBox);
}

let pause = 0;
function moveBox(event) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key === "Enter" && !shape) {
    setBox([0.25, 0.25, 0.75, 0.75]);
  } else if (event.key === "Escape" && shape) {
    setBox(null);
  } else if (event.key in steps && shape) {
    const [x, y] = steps[event.key].map((step) => step * 0.03);
    const [left, top, right, bottom] = shape;
    const moved = event.shiftKey ? [left, top, right + x, bottom + y] : [left + x, top + y, right + x, bottom + y];
    const fits = moved[0] >= -0.001 && moved[1] >= -0.001 && moved[2] <= 1.001 && moved[3] <= 1.001;
    const large = moved[2] - moved[0] > 0.03 && moved[3] - moved[1] > 0.03;
    if (fits && large) setBox(moved.map((value) => Math.min(1, Math.max(0, value))));
  } else {
    return;
  }
  event.preventDefault();
  clearTimeout(pause);
  pause = setTimeout(search, 300);
}

// ---- duplicates --------------------------------------------------------------------------------------------

function duplicates() {
  return attempt(async (current) => {
    const within = Number(part("near").value);
    part("near-value").textContent = within;
    part("groups-heading").textContent = "Looking…";
    const groups = await ask(`/duplicates?within=${within}`);
    if (!current()) return;
    const photos = groups.reduce((sum, group) => sum + group.length, 0);
    part("groups-heading").textContent = groups.length
      ? `${plural(groups.length, "group")} of ${plural(photos, "photo")}`
      : "No photos are so much alike.";
    part("groups").replaceChildren(...groups.map(section));
  });
}

function section(group) {
  const list = Object.assign(document.createElement("ul"), { className: "grid" });
  list.append(...group.map((photo, at) => item(photo, at === 0 ? "first" : photo.itself ? "the same file" : caption(photo))));
  const box = Object.assign(document.createElement("div"), { className: "group" });
  box.append(list);
  return box;
}

// ---- tabs and events ---------------------------------------------------------------------------------------

function choose(name) {
  for (const other of ["search", "duplicates"]) {
    part(`view-${other}`).hidden = other !== name;
    part(`tab-${other}`).setAttribute("aria-selected", String(other === name));
    part(`tab-${other}`).tabIndex = other === name ? 0 : -1;
  }
}

function listen() {
  part("tab-search").addEventListener("click", () => choose("search"));
  part("tab-duplicates").addEventListener("click", () => { choose("duplicates"); duplicates(); });
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = part("view-search").hidden ? "search" : "duplicates";
    part(`tab-${other}`).focus();
    part(`tab-${other}`).click();
  });
  part("near").addEventListener("input", () => { part("near-value").textContent = part("near").value; });
  part("near").addEventListener("change", duplicates);
  part("within").addEventListener("input", showMatches);
  part("order").addEventListener("change", search);
  part("more").addEventListener("click", () => browse(false));
  part("whole").addEventListener("click", () => { setBox(null); search(); });
  part("keep").addEventListener("click", keep);
  part("clear").addEventListener("click", () => { history.pushState(null, "", "#"); close(); });
  part("file").addEventListener("change", () => {
    const [file] = part("file").files;
    if (file) open({ file });
    part("file").value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      part("drop").classList.toggle("over", kind === "dragover");
    });
  }
  document.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (file) open({ file });
    else say("That was no photo.");
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) open({ file });
  });
  window.addEventListener("popstate", follow);
  drawBox();
}

listen();
follow();
count().catch((error) => say(error.message));
