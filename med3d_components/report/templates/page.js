"use strict";

// A click on a column's head sorts the rows by it, a second click the other way round; empty cells come last.
function sortRows(head, rising) {
  const rows = [...head.closest("table").tBodies[0].rows];
  const keyed = rows.map((row) => {
    const cell = row.cells[head.cellIndex];
    const text = cell.dataset.key ?? cell.textContent.trim();
    return { row, text, number: text === "" ? NaN : Number(text) };
  });
  const isNumeric = keyed.every(({ text, number }) => text === "" || !Number.isNaN(number));
  keyed.sort((a, b) => {
    if (a.text === "" || b.text === "") return (a.text === "") - (b.text === "");
    const order = isNumeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
    return rising ? order : -order;
  });
  head.closest("table").tBodies[0].append(...keyed.map(({ row }) => row));
}

for (const button of document.querySelectorAll("th > button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const rising = head.ariaSort !== "ascending";
    for (const other of head.parentElement.cells) other.ariaSort = null;
    head.ariaSort = rising ? "ascending" : "descending";
    sortRows(head, rising);
  });
}

// A link to a case opens what hides it.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  target?.closest("details")?.setAttribute("open", "");
  target?.scrollIntoView();
}
addEventListener("hashchange", reveal);
reveal();
