// Sorts the rows of a table by the column whose heading is pressed; a second press reverses them. A table without a
// heading above its first column compares columns, and its rows stay.
"use strict";
for (const heading of document.querySelectorAll("thead th")) {
  const rows = heading.closest("table").tBodies[0];
  if (rows.rows.length < 2 || !heading.parentNode.cells[0].textContent) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const column = heading.cellIndex;
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    rows.append(...[...rows.rows].sort((a, b) => compare(a.cells[column], b.cells[column], sign)));
  });
}

// Numbers by their value, before texts; empty cells and NaN come last in both directions.
function compare(a, b, sign) {
  const [x, y] = [a, b].map((cell) => Number(cell.dataset.value ?? NaN));
  if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  if (!a.textContent || !b.textContent) return Boolean(b.textContent) - Boolean(a.textContent);
  return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
}
