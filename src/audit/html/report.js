(() => {
  "use strict";
  // A field above each long table that filters its rows; above the verdicts also a button for each verdict.
  const NAMES = { not_met: "not met", not_shown: "not shown", not_applicable: "not applicable", met: "met" };
  for (const table of document.querySelectorAll("table.filtered")) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 9) continue;
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const controls = document.createElement("div");
    controls.className = "controls";
    const field = controls.appendChild(document.createElement("input"));
    field.type = "search";
    field.placeholder = "Filter rows";
    field.setAttribute("aria-label", "Show rows that contain");
    const shown = document.createElement("span");
    shown.setAttribute("role", "status");
    let verdict = "";
    const apply = () => {
      const wanted = field.value.trim().toLowerCase();
      let count = 0;
      rows.forEach((row, at) => {
        row.hidden = Boolean(verdict && row.dataset.verdict !== verdict) || !texts[at].includes(wanted);
        count += row.hidden ? 0 : 1;
      });
      shown.textContent = `${count} of ${rows.length} rows`;
    };
    for (const name of Object.keys(NAMES)) {
      const count = rows.filter((row) => row.dataset.verdict === name).length;
      if (!count) continue;
      const button = controls.appendChild(document.createElement("button"));
      button.type = "button";
      button.className = name;
      button.textContent = `${count} ${NAMES[name]}`;
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => {
        verdict = verdict === name ? "" : name;
        for (const other of controls.querySelectorAll("button")) {
          other.setAttribute("aria-pressed", String(other.className === verdict));
        }
        apply();
      });
    }
    controls.appendChild(shown);
    field.addEventListener("input", apply);
    table.parentElement.before(controls);
    apply();
  }
})();
