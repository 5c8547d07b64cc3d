(() => {
  "use strict";
  const PERIOD = 15000;
  const byId = (id) => document.getElementById(id);
  const text = byId("q");
  let status = new URLSearchParams(location.search).get("status") || "";
  let seen = null;
  let seenAt = new Date();

  if (![...document.querySelectorAll("nav a")].some((link) => link.dataset.status === status)) status = "";
  document.documentElement.classList.add("scripted");

  function apply() {
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    for (const row of document.querySelectorAll("#keys tbody tr")) {
      const fits = (!status || row.dataset.status === status)
        && (!wanted || row.textContent.toLowerCase().includes(wanted));
      row.hidden = !fits;
      if (fits) shown += 1;
    }
    byId("shown").textContent = shown;
    byId("none").hidden = shown > 0;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.dataset.status === status) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const query = new URLSearchParams();
    if (status) query.set("status", status);
    if (wanted) query.set("q", text.value.trim());
    history.replaceState(null, "", query.size ? "?" + query : location.pathname);
  }

  function showAge() {
    const age = byId("age");
    if (!age) return;
    const ended = age.previousElementSibling.dateTime;
    const minutes = Math.max(0, Math.round((Date.now() - Date.parse(ended)) / 60000));
    age.textContent = minutes < 120 ? `, ${minutes} min ago` : `, ${Math.round(minutes / 60)} h ago`;
  }

  async function refresh() {
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      const page = await answer.text();
      byId("lost").hidden = true;
      seenAt = new Date();
      if (page === seen) return;
      seen = page;
      const fresh = new DOMParser().parseFromString(page, "text/html");
      const focused = document.activeElement.closest("nav a")?.dataset.status;
      // The chosen status stays, also when no key has it any more.
      const links = fresh.getElementById("statuses");
      if (status && !links.querySelector(`[data-status="${status}"]`)) {
        const chosen = links.appendChild(document.querySelector(`nav a[data-status="${status}"]`));
        chosen.querySelector("b").textContent = 0;
      }
      for (const part of ["summary", "statuses", "rows", "caption", "none"]) {
        byId(part).replaceWith(document.adoptNode(fresh.getElementById(part)));
      }
      document.title = fresh.title;
      if (focused !== undefined) document.querySelector(`nav a[data-status="${focused}"]`)?.focus();
      apply();
    } catch {
      byId("from").textContent = `${seenAt.toISOString().slice(11, 16)} UTC`;
      byId("lost").hidden = false;
    } finally {
      showAge();
    }
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("nav a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    status = link.dataset.status;
    apply();
  });
  text.form.addEventListener("submit", (event) => event.preventDefault());
  text.addEventListener("input", apply);
  setInterval(() => { if (!document.hidden) refresh(); }, PERIOD);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  showAge();
  // A page that came filtered holds only some of the rows.
  if (location.search) refresh();
})();
