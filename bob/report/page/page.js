"use strict";
const cells = JSON.parse(document.getElementById("cells").textContent);

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.closest("th");
    const column = head.cellIndex;
    const descending = head.getAttribute("aria-sort") !== "descending" && head.dataset.first === "descending"
      || head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const known = (row) => value(row) !== "";
    const rows = [...body.rows].sort((a, b) => {
      if (known(a) !== known(b)) return known(a) ? -1 : 1;
      const x = value(a), y = value(b);
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return descending ? -order : order;
    });
    for (const row of rows) row.classList.remove("next-group");
    body.append(...rows);
  });
}

const filters = document.getElementById("filters");
const count = document.getElementById("count");
function filter() {
  const words = filters.elements.words.value.toLowerCase().trim();
  const most = parseFloat(filters.elements.most.value);
  const chosen = ["family", "licence", "pretraining"].map((name) => [name, filters.elements[name].value]);
  const shown = new Set();
  for (const row of document.querySelectorAll("tr[data-backbone]")) {
    const size = parseFloat(row.dataset.parameters);
    const kept = row.dataset.backbone.toLowerCase().includes(words)
      && chosen.every(([name, value]) => !value || row.dataset[name] === value)
      && (isNaN(most) || (size > 0 && size <= most));
    row.hidden = !kept;
    if (kept) shown.add(row.dataset.backbone);
  }
  count.textContent = `${shown.size} backbones shown`;
}
if (filters) {
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(filter));
  filter();
}

const dialog = document.getElementById("detail");
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.cell");
  if (!button) return;
  const facts = cells[button.dataset.cell];
  dialog.querySelector("h2").textContent = facts.title;
  const list = dialog.querySelector("dl");
  list.replaceChildren();
  for (const [name, value, code] of facts.rows) {
    const term = document.createElement("dt");
    term.textContent = name;
    const detail = document.createElement("dd");
    if (code) detail.append(Object.assign(document.createElement("code"), {textContent: value}));
    else detail.textContent = value;
    list.append(term, detail);
  }
  dialog.showModal();
});
