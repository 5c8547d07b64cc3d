(() => {
  "use strict";
  const PERIOD = 15000;
  const BUSY_PERIOD = 3000;
  const TYPING = 250;
  const PARTS = ["summary", "projects", "statuses", "list"];
  const byId = (id) => document.getElementById(id);
  const text = byId("q");
  let tag = null;
  let seenAt = new Date();
  let typing;

  document.documentElement.classList.add("scripted");

  function showAge() {
    const age = byId("age");
    if (!age) return;
    const ended = age.previousElementSibling.dateTime;
    const minutes = Math.max(0, Math.round((Date.now() - Date.parse(ended)) / 60000));
    age.textContent = minutes < 120 ? `, ${minutes} min ago` : `, ${Math.round(minutes / 60)} h ago`;
  }

  function replace(page) {
    const fresh = new DOMParser().parseFromString(page, "text/html");
    const keyOf = (row) => row?.querySelector(".key a")?.href;
    const focused = document.activeElement?.closest("a")?.href;
    const focusedRow = keyOf(document.activeElement?.closest("summary")?.closest("tr"));
    const opened = new Map([...document.querySelectorAll("tr")].map((row) => [keyOf(row), row.querySelector("details")?.open]));
    for (const part of PARTS) {
      if (byId(part) && fresh.getElementById(part)) byId(part).replaceWith(document.adoptNode(fresh.getElementById(part)));
    }
    // What its reader has opened or closed stays so.
    for (const row of document.querySelectorAll("tr")) {
      const [details, was] = [row.querySelector("details"), opened.get(keyOf(row))];
      if (details && was !== undefined) details.open = was;
      if (details && focusedRow && keyOf(row) === focusedRow) details.querySelector("summary").focus();
    }
    document.title = fresh.title;
    document.body.dataset.busy = fresh.body.dataset.busy ?? "no";
    if (focused) [...document.links].find((link) => link.href === focused)?.focus();
  }

  async function refresh() {
    const address = location.pathname + location.search;
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const answer = await fetch(address, { cache: "no-store", headers });
      if (!answer.ok && answer.status !== 304) throw new Error(answer.status);
      byId("lost").hidden = true;
      seenAt = new Date();
      if (answer.status === 304) return;
      const page = await answer.text();
      // Meanwhile another page was asked for.
      if (address !== location.pathname + location.search) return;
      tag = answer.headers.get("ETag");
      replace(page);
    } catch {
      byId("from").textContent = `${seenAt.toISOString().slice(11, 16)} UTC`;
      byId("lost").hidden = false;
    } finally {
      showAge();
    }
  }

  function show() {
    clearTimeout(typing);
    const query = new URLSearchParams(new FormData(text.form));
    for (const [name, value] of [...query]) if (!value.trim()) query.delete(name);
    history.replaceState(null, "", query.size ? "?" + query : location.pathname);
    tag = null;
    return refresh();
  }

  if (text) {
    text.form.addEventListener("submit", (event) => { event.preventDefault(); show(); });
    text.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(show, TYPING); });
    byId("group").addEventListener("change", show);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  (function wait() {
    setTimeout(async () => {
      if (!document.hidden) await refresh();
      wait();
    }, document.body.dataset.busy === "yes" ? BUSY_PERIOD : PERIOD);
  })();
  showAge();
})();
