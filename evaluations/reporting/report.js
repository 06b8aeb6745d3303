"use strict";
(() => {
  const PAGE = 50, MAX_CHOICES = 60;
  const columns = JSON.parse(document.getElementById("table-data").textContent);
  const link = columns.pop();
  const read = (column, row) => (column.levels ? column.levels[column.at[row]] : column.values[row]);
  const size = columns.length ? (columns[0].values || columns[0].at).length : 0;
  const filters = document.getElementById("filters"), shown = document.getElementById("shown");
  const head = document.querySelector("#trials thead"), body = document.querySelector("#trials tbody");
  const before = document.getElementById("before"), after = document.getElementById("after");
  const chosen = new Map();
  let words = [], order = Int32Array.from({ length: size }, (_, i) => i), rows = order, first = 0, sorted = null, rising = true;
  let texts = null; // lower-case text of each row, made when it is first searched

  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };

  const labelled = (title, element) => {
    const label = make("label", title, filters);
    label.append(element);
    return element;
  };

  const search = labelled("words", document.createElement("input"));
  search.type = "search";
  search.placeholder = "said, trial, code …";
  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { words = search.value.toLowerCase().split(/\s+/).filter(Boolean); filter(); }, 150);
  });
  filters.addEventListener("submit", (event) => event.preventDefault());

  for (const column of columns) {
    if (!column.levels || column.levels.length < 2 || column.levels.length > MAX_CHOICES || column.title === "said") continue;
    const select = labelled(column.title, document.createElement("select"));
    make("option", "all", select).value = "";
    column.levels.map((level, i) => [level, i]).sort((a, b) => a[0].localeCompare(b[0]))
      .forEach(([level, i]) => { make("option", level || "(none)", select).value = String(i); });
    select.addEventListener("change", () => {
      if (select.value === "") chosen.delete(column); else chosen.set(column, Number(select.value));
      filter();
    });
  }

  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a ?? "").localeCompare(String(b ?? "")));

  function sortBy(column) {
    rising = sorted === column ? !rising : true;
    sorted = column;
    const rank = column.levels && column.levels.map((_, i) => i).sort((a, b) => compare(column.levels[a], column.levels[b]));
    const place = rank && rank.reduce((found, level, i) => { found[level] = i; return found; }, []);
    const key = place ? (row) => place[column.at[row]] : (row) => column.values[row];
    const missing = (value) => value === null || value === undefined;
    order = Int32Array.from(Array.from(order).sort((a, b) => {
      const x = key(a), y = key(b);
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return rising ? compare(x, y) : compare(y, x);
    }));
    drawHead();
    filter();
  }

  function filter() {
    if (words.length && !texts) {
      texts = Array.from({ length: size }, (_, row) => columns.map((column) => read(column, row) ?? "").join(" ").toLowerCase());
    }
    const tests = [...chosen];
    rows = order.filter((row) => tests.every(([column, level]) => column.at[row] === level) && words.every((word) => texts[row].includes(word)));
    first = 0;
    draw();
  }

  function drawHead() {
    head.replaceChildren();
    const line = make("tr", undefined, head);
    for (const column of columns) {
      const cell = make("th", undefined, line);
      cell.scope = "col";
      if (column === sorted) cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const button = make("button", column.title + (column === sorted ? (rising ? " ▲" : " ▼") : ""), cell);
      button.type = "button";
      button.addEventListener("click", () => sortBy(column));
    }
  }

  function draw() {
    body.replaceChildren();
    for (const row of rows.slice(first, first + PAGE)) {
      const line = make("tr", undefined, body);
      for (const column of columns) {
        const value = read(column, row), cell = make("td", undefined, line);
        cell.className = typeof value === "number" ? "number" : column.title;
        const target = column.title === "trial" && read(link, row);
        if (target) make("a", value, cell).href = target; else cell.textContent = value ?? "";
      }
    }
    shown.textContent = rows.length
      ? `${first + 1} to ${Math.min(first + PAGE, rows.length)} of ${rows.length}` + (rows.length < size ? ` chosen among ${size}` : "")
      : "no trial fits";
    before.disabled = first === 0;
    after.disabled = first + PAGE >= rows.length;
  }

  before.addEventListener("click", () => { first = Math.max(0, first - PAGE); draw(); });
  after.addEventListener("click", () => { first += PAGE; draw(); });
  drawHead();
  draw();
})();
