"use strict";
// One mask over one picture. It lives on a canvas; its history, its draft and what is sent are COCO's run lengths.
const $ = (id) => document.getElementById(id), token = location.hash.slice(1);
const canvas = $("canvas"), view = canvas.getContext("2d");
const COLOUR = [255, 0, 190], MOST_STEPS = 100, LONGEST_REST_S = 30;
const layer = document.createElement("canvas"), paint = layer.getContext("2d", { willReadFrequently: true });
let rows = [], at = 0, shown = null, picture = null, by = "", tool = "add", zoom = 1, seen = true;
let past = [], future = [], counts = [], stroke = null, corner = null, cursor = null, busy = false, loading = 0;
let seconds = 0, last = Date.now();

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = "Bearer " + token;
  const answer = await fetch("api/" + path, { method: "POST", headers, body: JSON.stringify(body ?? {}) });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error ? value.error.message : "error " + answer.status);
  return value;
}
function say(text, bad) { $("state").textContent = text; $("state").className = bad ? "soft bad" : "soft"; }
// Time at work: a longer rest than LONGEST_REST_S counts as that.
function worked() { const now = Date.now(); seconds += Math.min((now - last) / 1000, LONGEST_REST_S); last = now; }

// ---- the mask as run lengths, column by column
function runsOf() {
  const w = layer.width, h = layer.height, d = paint.getImageData(0, 0, w, h).data, runs = [];
  let value = false, run = 0;
  for (let x = 0; x < w; x++) for (let y = 0, k = 4 * x + 3; y < h; y++, k += 4 * w) {
    const on = d[k] > 127;
    if (on !== value) { runs.push(run); run = 0; value = on; }
    run++;
  }
  runs.push(run);
  return runs;
}
function show(runs) {
  counts = runs;
  const w = layer.width, h = layer.height, d = paint.createImageData(w, h);
  let k = 0;
  runs.forEach((run, i) => { if (i % 2) for (let n = k; n < k + run; n++) d.data.set([...COLOUR, 255], 4 * ((n % h) * w + Math.floor(n / h))); k += run; });
  paint.putImageData(d, 0, 0);
}
const isEmpty = () => counts.length < 2;

// ---- history and draft
const draftKey = () => "affordagent-draft:" + by + ":" + shown.key;
function remember() {
  try { localStorage.setItem(draftKey(), JSON.stringify({ counts, seconds })); }
  catch (error) { say("the draft is not kept (" + error.name + "): save before you reload", true); }
}
function draft() {
  try {
    const kept = JSON.parse(localStorage.getItem(draftKey()));
    return kept && kept.counts.reduce((a, b) => a + b, 0) === shown.width * shown.height ? kept : null;
  } catch (error) { return null; }
}
function change(runs) {
  worked();
  past.push(counts); if (past.length > MOST_STEPS) past.shift();
  future = []; show(runs); remember(); draw();
}
function step(from, to) { if (!busy && from.length) { to.push(counts); show(from.pop()); remember(); draw(); } }

// ---- drawing
const size = () => +$("size").value;
function draw() {
  if (!shown) return;
  view.globalAlpha = 1; view.drawImage(picture, 0, 0);
  if (seen) { view.globalAlpha = .5; view.drawImage(layer, 0, 0); view.globalAlpha = 1; }
  const unit = canvas.width / Math.max(1, canvas.clientWidth);
  if (shown.box) { view.setLineDash([6 * unit, 4 * unit]); frame(shown.box, "#fff", unit); view.setLineDash([]); }
  if (corner && cursor) frame([...corner, ...cursor], "#ff0", 2 * unit);
  if (cursor) {
    const r = tool === "brush" || tool === "erase" ? size() : 6 * unit;
    for (const [colour, width] of [["#000", 3], ["#fff", 1.5]]) {
      view.strokeStyle = colour; view.lineWidth = width * unit; view.beginPath(); view.arc(cursor[0], cursor[1], r, 0, 7);
      view.moveTo(cursor[0] - 3 * unit, cursor[1]); view.lineTo(cursor[0] + 3 * unit, cursor[1]); view.stroke();
    }
  }
  $("undo").disabled = !past.length; $("redo").disabled = !future.length; $("save").disabled = isEmpty();
}
function frame([x0, y0, x1, y1], colour, width) { view.strokeStyle = colour; view.lineWidth = width; view.strokeRect(x0, y0, x1 - x0, y1 - y0); }
function line(from, to) {
  paint.globalCompositeOperation = tool === "erase" ? "destination-out" : "source-over";
  paint.strokeStyle = "rgb(" + COLOUR.join(",") + ")"; paint.lineCap = paint.lineJoin = "round"; paint.lineWidth = 2 * size();
  paint.beginPath(); paint.moveTo(...from); paint.lineTo(to[0] + .01, to[1]); paint.stroke();
  paint.globalCompositeOperation = "source-over";
}

// ---- tools
async function helped(path, body) {
  if (busy) return;
  const mine = loading, key = shown.key;
  busy = true; say("looking ...");
  try {
    const found = await ask(path, { key, counts, ...body });
    if (mine === loading) { change(found.counts); say(shown.sam2 ? "SAM 2 did that" : "by colours: mend it with brush and eraser"); }
  } catch (error) { if (mine === loading) say(error.message, true); }
  busy = false;
}
function pixel(p) { return [Math.min(shown.width - 1, Math.max(0, Math.floor(p[0]))), Math.min(shown.height - 1, Math.max(0, Math.floor(p[1])))]; }
function click(p, add) { const [x, y] = pixel(p); return helped("region", { x, y, add }); }
function box(a, b, add) {
  corner = null;
  const xs = [a[0], b[0]].sort((p, q) => p - q), ys = [a[1], b[1]].sort((p, q) => p - q);
  const inside = [Math.max(0, xs[0]), Math.max(0, ys[0]), Math.min(shown.width, xs[1]), Math.min(shown.height, ys[1])];
  if (inside[2] - inside[0] < 2 || inside[3] - inside[1] < 2) { draw(); return say("draw a box from corner to corner", true); }
  return helped("box", { box: inside, add });
}
function place(event) {
  const r = canvas.getBoundingClientRect();
  return [(event.clientX - r.left) * canvas.width / r.width, (event.clientY - r.top) * canvas.height / r.height];
}
canvas.addEventListener("pointerdown", (event) => {
  if (!shown || busy || event.button > 0 || !event.isPrimary) return;
  canvas.focus({ preventScroll: true }); cursor = null;
  const p = place(event);
  if (tool === "hand") stroke = event.pointerType === "mouse" ? { from: [event.clientX, event.clientY], scroll: [$("stage").scrollLeft, $("stage").scrollTop] } : null;
  else { event.preventDefault(); stroke = { at: p, start: p }; }
  if (stroke) canvas.setPointerCapture(event.pointerId);
  if (tool === "brush" || tool === "erase") line(p, p);
  draw();
});
canvas.addEventListener("pointermove", (event) => {
  if (!stroke || !event.isPrimary) return;
  if (tool === "hand") return $("stage").scrollTo(stroke.scroll[0] - event.clientX + stroke.from[0], stroke.scroll[1] - event.clientY + stroke.from[1]);
  const p = place(event);
  if (tool === "brush" || tool === "erase") line(stroke.at, p);
  stroke.at = p; draw();
  if (tool === "box") frame([...stroke.start, ...p], "#ff0", 2 * canvas.width / canvas.clientWidth);
});
canvas.addEventListener("pointerup", (event) => {
  if (!stroke || !event.isPrimary) return;
  const { start, at: end } = stroke; stroke = null;
  if (tool === "brush" || tool === "erase") change(runsOf());
  else if (tool === "add" || tool === "cut") click(start, tool === "add");
  else if (tool === "box") box(start, end, !event.shiftKey);
});
// The browser took the pointer, for a pinch: what was painted by its first finger goes again.
canvas.addEventListener("pointercancel", () => { if (stroke) { stroke = null; show(counts); draw(); } });
function use(shift) {
  cursor = cursor || [canvas.width / 2, canvas.height / 2];
  if (busy || tool === "hand") return draw();
  if (tool === "brush" || tool === "erase") { line(cursor, cursor); change(runsOf()); }
  else if (tool === "box") { if (corner) box(corner, cursor, !shift); else { corner = [...cursor]; say("space again at the other corner"); } }
  else click(cursor, tool === "add");
  draw();
}
function pick(name) {
  tool = name; corner = null; stroke = null; canvas.classList.toggle("hand", name === "hand");
  for (const b of document.querySelectorAll("[data-tool]")) b.setAttribute("aria-pressed", b.dataset.tool === name);
  draw();
}
function zoomTo(to) {
  const stage = $("stage"), before = zoom; zoom = Math.min(8, Math.max(1, to));
  const [x, y] = cursor ? [cursor[0] / canvas.width, cursor[1] / canvas.height] : [.5, .5];
  canvas.style.width = 100 * zoom + "%";
  if (zoom !== before) stage.scrollTo(x * canvas.clientWidth - stage.clientWidth / 2, y * canvas.clientHeight - stage.clientHeight / 2);
  draw();
}

// ---- rows
const SIGN = { mask: "✓", absent: "∅", "cannot say": "?" };
const label = (row, i) => (row.said ? SIGN[row.said] : "·") + " " + (i + 1) + ". " + row.name;
async function open(index) {
  const mine = ++loading;
  at = (index + rows.length) % rows.length; $("rows").selectedIndex = at;
  sessionStorage.setItem("row", rows[at].key);
  shown = null; stroke = corner = cursor = null; busy = false; say("loading ...");
  try {
    const got = await ask("row", { key: rows[at].key }), image = new Image();
    image.src = got.picture; await image.decode();
    if (mine !== loading) return;
    shown = got; picture = image;
    canvas.width = layer.width = got.width; canvas.height = layer.height = got.height;
    past = []; future = []; seconds = 0; last = Date.now();
    const kept = draft();
    show(kept ? kept.counts : got.start); if (kept) seconds = kept.seconds;
    $("wish").textContent = got.part ? "The " + got.part + " of the " + got.category : got.category ? "The " + got.category : "What the text asks for";
    $("text").textContent = got.text; $("why").textContent = got.why || "A second look: " + got.origin + ".";
    $("tools").replaceChildren(...got.tools.map((said) => { const li = document.createElement("li"); li.textContent = said; return li; }));
    say(kept ? "your draft, not saved yet" : got.said && got.said !== "mask" ? "your answer: " + got.said : "it begins with: " + got.origin);
    zoomTo(1); canvas.dataset.row = got.key;
  } catch (error) { if (mine === loading) say(error.message, true); }
}
async function answer(said) {
  if (!shown || busy) return;
  if (said === "mask" && isEmpty()) return say("the mask is empty: paint it, or say that it is not there", true);
  busy = true; worked(); say("saving ...");
  const row = rows[at], i = at, mine = loading, kept = draftKey();
  try {
    await ask("answer", { key: shown.key, said, counts: said === "mask" ? counts : null, seconds });
    localStorage.removeItem(kept);
    row.said = said; $("rows").options[i].textContent = label(row, i); count();
    busy = false;
    if (mine === loading) { const to = next(i); if (to < 0) { await open(i); say("saved; all rows have your answer"); } else { await open(to); } }
  } catch (error) { busy = false; say("NOT SAVED: " + error.message + "; your draft is kept, try again", true); }
}
function next(i) { for (let k = 1; k < rows.length; k++) if (!rows[(i + k) % rows.length].said) return (i + k) % rows.length; return -1; }
function count() { $("done").textContent = by + ": " + rows.filter((row) => row.said).length + " of " + rows.length + " rows answered. Every answer is on the disk when the next row opens."; }

const DO = {
  a: () => pick("add"), r: () => pick("cut"), x: () => pick("box"), b: () => pick("brush"), e: () => pick("erase"), h: () => pick("hand"),
  z: () => step(past, future), y: () => step(future, past), c: () => shown && !busy && change([shown.width * shown.height]), t: () => shown && !busy && change(shown.start),
  "[": () => { $("size").value = size() - 2; draw(); }, "]": () => { $("size").value = size() + 2; draw(); },
  "+": () => zoomTo(zoom * 1.5), "=": () => zoomTo(zoom * 1.5), "-": () => zoomTo(zoom / 1.5), 0: () => zoomTo(1),
  m: () => { seen = !seen; $("see").setAttribute("aria-pressed", seen); $("see").textContent = seen ? "Mask shown" : "Mask hidden"; draw(); },
  Enter: () => answer("mask"), n: () => answer("absent"), u: () => answer("cannot say"),
  ",": () => open(at - 1), ".": () => open(at + 1), Escape: () => { corner = cursor = null; draw(); },
};
for (const [id, key] of Object.entries({ undo: "z", redo: "y", clear: "c", again: "t", in: "+", out: "-", fit: "0", see: "m", save: "Enter", absent: "n", unsure: "u", previous: ",", next: "." })) $(id).onclick = DO[key];
for (const b of document.querySelectorAll("[data-tool]")) b.onclick = () => pick(b.dataset.tool);
$("rows").onchange = () => open($("rows").selectedIndex);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
  const onCanvas = document.activeElement === canvas || document.activeElement === document.body;
  const far = event.shiftKey ? 20 : 4, way = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (onCanvas && shown && way) {
    cursor = pixel([(cursor || [canvas.width / 2, 0])[0] + way[0], (cursor || [0, canvas.height / 2])[1] + way[1]]).map((n) => n + .5); draw();
  } else if (onCanvas && shown && key === " ") use(event.shiftKey);
  else if (key in DO && !(key === "Enter" && event.target.matches("button"))) DO[key]();
  else return;
  event.preventDefault();
});
(async () => {
  pick("add");
  try {
    const got = await ask("rows");
    rows = got.rows; by = got.by;
    $("rows").replaceChildren(...rows.map((row, i) => { const o = document.createElement("option"); o.textContent = label(row, i); return o; }));
    count();
    const before = rows.findIndex((row) => row.key === sessionStorage.getItem("row"));
    await open(before < 0 ? Math.max(0, rows.findIndex((row) => !row.said)) : before);
  } catch (error) { say(error.message, true); }
})();
