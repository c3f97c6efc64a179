"use strict";
// A click on a column's name sorts its table, a second click the other way round; gaps ("-") stay last.
function sortValue(row, column) {
  const text = row.cells[column].textContent.trim();
  return text === "-" || text === "" ? null : isNaN(text) ? text : Number(text);
}
function compareValues(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}
function sortTable(table, column, sign) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [sortValue(row, column), row]);
  const [gaps, filled] = [rows.filter(([value]) => value === null), rows.filter(([value]) => value !== null)];
  filled.sort((a, b) => sign * compareValues(a[0], b[0]));
  body.append(...filled.concat(gaps).map(([, row]) => row));
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      sortTable(table, column, rising ? 1 : -1);
    });
  });
}
