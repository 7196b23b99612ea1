"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  // Ages: the file states absolute times only.
  const units = [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "always" });
  const age = (time) => {
    const seconds = Math.max(0, (Date.now() - time) / 1000);
    for (const [unit, length] of units) {
      if (seconds >= length) return words.format(-Math.floor(seconds / length), unit);
    }
    return "just now";
  };
  const ages = all("time[datetime]").filter((element) => !element.closest("figcaption")).map((element) => {
    const time = Date.parse(element.dateTime);
    const span = document.createElement("span");
    span.className = "age";
    element.title = new Date(time).toLocaleString();
    element.after(span);
    return () => { span.textContent = " (" + age(time) + ")"; };
  });
  const tell = () => ages.forEach((update) => update());
  tell();
  setInterval(tell, 30000);

  // Tables: a button in each head sorts; a third click restores the order of the file.
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return "";
    return "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent.trim();
  };
  const most = 12;
  all("table").forEach((table) => {
    const body = table.tBodies[0];
    const original = Array.from(body.rows);
    const heads = Array.from(table.tHead.rows[0].cells);
    original.forEach((row) => Array.from(row.cells).forEach((cell, column) => {
      if (cell.className === "n") cell.dataset.h = heads[column].textContent;
    }));
    heads.forEach((head, column) => {
      if (!head.textContent || head.classList.contains("x")) return;
      const numeric = head.classList.contains("n");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const order = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
        const next = order[order.indexOf(head.getAttribute("aria-sort")) + 1];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        let rows = original;
        if (next) {
          head.setAttribute("aria-sort", next);
          const sign = next === "ascending" ? 1 : -1;
          rows = original.filter((row) => row.cells.length > 1).map((row) => [value(row, column), row]);
          rows.sort(([a], [b]) => sign * (typeof a === "number" ? a - b : collator.compare(a, b)));
          rows = rows.map(([, row]) => row).concat(original.filter((row) => row.cells.length === 1));
        }
        body.append(...rows);
        fold();
      });
    });
    // Long tables show their first rows, and all of them on request, in print and while the filter is used.
    let open = original.length <= most + 3;
    const fold = () => Array.from(body.rows).forEach((row, index) => row.classList.toggle("folded", !open && index >= most));
    if (!open) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "unfold";
      const name = () => { button.textContent = open ? "Show fewer rows" : "Show all " + original.length + " rows"; };
      button.addEventListener("click", () => { open = !open; fold(); name(); });
      name();
      table.after(button);
      fold();
    }
  });

  // The filter keeps the rows of all tables whose names have every word.
  const box = document.getElementById("filter");
  const hits = document.getElementById("hits");
  const rows = all("tbody tr").map((row) => [row, all("th, td:not(.n)", row).map((cell) => cell.textContent).join(" ").toLowerCase()]);
  const filter = () => {
    const wanted = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    document.body.classList.toggle("filtered", wanted.length > 0);
    rows.forEach(([row, text]) => {
      row.hidden = !wanted.every((word) => text.includes(word));
      shown += !row.hidden;
    });
    hits.textContent = wanted.length ? shown + (shown === 1 ? " row" : " rows") : "";
  };
  box.parentElement.hidden = false;
  box.addEventListener("input", filter);
  if (box.value) filter();

  // Served over HTTP, the page asks for the manifest beside it. A reader who has done nothing yet gets the new page.
  if (!location.protocol.startsWith("http")) return;
  const generation = Number(document.body.dataset.generation);
  const notice = document.querySelector(".newer");
  let touched = false;
  ["keydown", "pointerdown", "wheel", "touchstart"].forEach((kind) => addEventListener(kind, () => { touched = true; }, { passive: true }));
  notice.querySelector("button").addEventListener("click", () => location.reload());
  const look = async () => {
    if (document.hidden) return;
    try {
      // Asked anew each time: to a server that compares whole seconds, a later manifest may look unchanged.
      const answer = await fetch("manifest.json", { cache: "no-store" });
      if (!answer.ok) return;
      const latest = (await answer.json()).generation;
      if (!(latest > generation)) return;
      if (!touched && sessionStorage.getItem("seen") !== String(latest)) {
        sessionStorage.setItem("seen", latest);  // A cache may have the old page: once is enough.
        location.reload();
        return;
      }
      notice.firstElementChild.textContent = "Generation " + latest + " is published.";
      notice.hidden = false;
    } catch { /* The server is away. */ }
  };
  setInterval(look, 15000);
  document.addEventListener("visibilitychange", look);
})();
