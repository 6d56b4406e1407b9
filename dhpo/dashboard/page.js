"use strict";
// The page around the plots. Whatever comes from a search is put in as text, never as HTML.
window.dhpo = (() => {
  const api = location.pathname.replace(/\/+$/, "") + "/api/";
  const search = new URLSearchParams(location.search).get("search") || "";
  const byId = (id) => document.getElementById(id);
  let choose = () => {};
  let shown = {};
  const tables = [];

  function element(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  // Values as text.

  function number(value, digits = 5) {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
    return String(+value.toPrecision(digits));
  }

  function duration(seconds) {
    if (seconds === null || seconds === undefined) return "–";
    if (seconds < 60) return `${+seconds.toPrecision(3)}s`;
    const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
    let left = Math.round(seconds);
    const parts = [];
    for (const [unit, length] of units) {
      const count = Math.floor(left / length);
      left -= count * length;
      if (count) parts.push(`${count}${unit}`);
    }
    return parts.slice(0, 2).join(" ");
  }

  const share = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);
  const cell = (value) => (Array.isArray(value) ? value.map(cell).join(", ") : value === null ? "" : number(value, 6));

  // Numbers at the top.

  function cards(s) {
    const goals = s.best.length === 1 ? [[`best ${s.best[0].objective}`, number(s.best[0].value)]] : [];
    if (s.front_size !== null) {
      goals.push(["front size", number(s.front_size)], ["hypervolume", number(s.hypervolume)]);
    }
    const w = s.workers;
    return [
      ["trials ended", s.num_trials === null ? number(s.ended) : `${s.ended} of ${s.num_trials}`],
      ["running", number(s.trials.RUNNING)],
      ["stopped early", number(s.trials.STOPPED)],
      ...(s.trials.PAUSED ? [["paused", number(s.trials.PAUSED)]] : []),
      ["failed", number(s.failed)],
      ...goals,
      ["elapsed", duration(s.elapsed_s)],
      ["trials per hour", number(s.trials_per_hour, 3)],
      ["time left", s.state === "finished" ? "done" : duration(s.eta_s)],
      ["utilisation", share(w.utilisation)],
    ];
  }

  function show(s) {
    byId("name").textContent = s.name;
    byId("state").textContent = s.state + (s.reason ? `: ${s.reason}` : "");
    byId("state").className = `state ${s.state}`;
    byId("cards").replaceChildren(...cards(s).map(([name, value]) => {
      const card = element("div", null, { class: "card" });
      card.append(element("b", value), element("span", name));
      return card;
    }));
    note(s);
    selects(s);
    best(s);
    rungs(s);
    cluster(s);
    for (const empty of document.querySelectorAll("[data-empty]")) {
      const is = s.empty.includes(empty.dataset.empty);
      empty.hidden = !is;
      document.querySelector(`[data-plot="${empty.dataset.empty}"]`).hidden = is;
    }
    for (const key of document.querySelectorAll("[data-key]")) {
      const kinds = s.kinds[key.dataset.of];
      key.hidden = kinds !== undefined && !kinds.includes(key.dataset.key);
    }
    for (const table of tables) table.refresh();
  }

  function hide(key) {
    const hidden = key.getAttribute("aria-pressed") === "true";
    key.setAttribute("aria-pressed", !hidden);
    const plot = window.Bokeh.documents[0].get_model_by_name(key.dataset.of);
    for (const renderer of plot.renderers) if (renderer.name === key.dataset.key) renderer.visible = !hidden;
  }

  function note(s) {
    const lines = [];
    if (!s.caught_up) lines.push("Reading what has happened so far …");
    if (s.cluster) lines.push(s.cluster);
    if (s.last_error) lines.push(`Last failure: trial ${s.last_error.trial}: ${s.last_error.error.slice(0, 300)}`);
    if (s.over && s.state === "waiting") lines.push("Its driver has ended, and nobody had looked: `dhpo dashboard DIR` shows the directory of a search.");
    if (s.state === "interrupted") lines.push("No driver is at work: run the search again to go on.");
    byId("note").textContent = lines.join(" · ");
    byId("note").hidden = !lines.length;
  }

  function options(select, entries, chosen) {
    const text = JSON.stringify(entries);
    if (select.dataset.entries === text) return;
    select.dataset.entries = text;
    select.replaceChildren(...entries.map(([value, name]) => element("option", name, { value })));
    select.value = chosen;
  }

  function selects(s) {
    const goals = Object.keys(s.objectives).map((name, index) => [String(index), name]);
    byId("objective-label").hidden = goals.length < 2;
    options(byId("objective"), goals, "0");
    if (byId("x")) {
      byId("front-axes").hidden = goals.length < 3;
      options(byId("x"), goals, "0");
      options(byId("y"), goals, "1");
    }
    const others = Object.entries(s.searches);
    byId("searches-label").hidden = others.length < 2;
    options(byId("searches"), others, s.search_id);
  }

  // Small tables.

  function plain(columns, rows) {
    const table = element("table");
    const head = table.createTHead().insertRow();
    const numeric = (index) => rows.some((row) => typeof row[index] === "number");
    columns.forEach((name, index) => {
      head.append(element("th", name, numeric(index) ? { scope: "col", class: "number" } : { scope: "col" }));
    });
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      row.forEach((value, index) => {
        const title = typeof value === "number" ? String(value) : cell(value);
        line.append(element("td", cell(value), numeric(index) ? { title, class: "number" } : { title }));
      });
    }
    return table;
  }

  function best(s) {
    const line = (name, of) => [name, ...s.best.map((b) => of(b) ?? null)];
    const rows = [
      line("value", (b) => b.value), line("trial", (b) => b.trial), line(s.resource, (b) => b.resource),
      ...s.hyperparameters.map((name) => line(name, (b) => b.config[name])),
    ];
    const table = plain(["", ...s.best.map((b) => `best ${b.objective}`)], rows);
    byId("best").replaceChildren(s.best.length ? table : element("p", "No result yet.", { class: "empty" }));
  }

  function rungs(s) {
    const rows = s.rungs.map((r) => [
      r.bracket, r.level, r.entered, r.promoted, r.stopped, ...(s.trials.PAUSED ? [r.paused] : []),
      r.correlation === null ? null : +r.correlation.toFixed(2),
    ]);
    const names = ["bracket", s.resource, "entered", "promoted", "stopped", ...(s.trials.PAUSED ? ["paused"] : []), "rank correlation with the next rung"];
    byId("rungs").replaceChildren(rows.length ? plain(names, rows) : element("p", "No rung reached yet, or this search's stopper has none.", { class: "empty" }));
  }

  function cluster(s) {
    const w = s.workers;
    const parts = [
      w.connected === null ? `${w.seen} workers have run trials` : `${w.connected} workers connected, ${w.busy} busy, ${w.seen} seen so far`,
      `${w.losses} trials lost with their workers`,
      `utilisation ${share(w.utilisation)}`,
      `wait for a worker: median ${duration(w.wait_median_s)}, longest ${duration(w.wait_longest_s)}`,
    ];
    if (s.cluster) parts.unshift(s.cluster);
    byId("cluster").textContent = parts.join(" · ");
  }

  // Tables that the server filters, sorts and cuts into pages.

  class Table {
    constructor(root, source, statuses, sort = "") {
      this.source = source;
      this.wanted = { text: "", status: "", sort, descending: sort ? "1" : "", offset: 0, limit: 50 };
      this.filter = element("input", null, { type: "search", placeholder: "filter: any text in a row", "aria-label": "filter rows" });
      this.status = element("select", null, { "aria-label": "status" });
      for (const status of ["", ...statuses]) this.status.append(element("option", status.toLowerCase().replace("_", " ") || "all", { value: status }));
      this.status.hidden = !statuses.length;
      this.before = element("button", "‹ previous", { type: "button" });
      this.after = element("button", "next ›", { type: "button" });
      this.count = element("span", "", { class: "facts" });
      this.scroll = element("div", null, { class: "scroll" });
      const controls = element("div", null, { class: "controls" });
      controls.append(this.filter, this.status, this.before, this.after, this.count);
      root.append(controls, this.scroll);
      this.root = root;
      this.filter.addEventListener("input", () => this.want({ text: this.filter.value, offset: 0 }));
      this.status.addEventListener("change", () => this.want({ status: this.status.value, offset: 0 }));
      this.before.addEventListener("click", () => this.want({ offset: Math.max(0, this.wanted.offset - this.wanted.limit) }));
      this.after.addEventListener("click", () => this.want({ offset: this.wanted.offset + this.wanted.limit }));
    }

    want(changes) {
      Object.assign(this.wanted, changes);
      this.refresh();
    }

    async refresh() {
      if (this.root.offsetParent === null) return;  // on a tab that is not shown
      if (this.busy) { this.again = true; return; }
      this.busy = true;
      try {
        const answer = await fetch(api + this.source + "?" + new URLSearchParams({ ...this.wanted, search }));
        if (answer.ok) this.draw(await answer.json());
      } catch (error) {
        this.count.textContent = "no connection";
      } finally {
        this.busy = false;
      }
      if (this.again) { this.again = false; this.refresh(); }
    }

    draw(page) {
      const table = plain([], page.rows);
      const head = table.tHead.rows[0];
      page.columns.forEach((name, index) => {
        const button = element("button", name.replace(/^(objective|hp):/, "").replaceAll("_", name.startsWith("hp:") ? "_" : " "), { type: "button" });
        const heading = element("th", null, { scope: "col", class: page.rows.some((row) => typeof row[index] === "number") ? "number" : "" });
        if (this.wanted.sort === name) heading.setAttribute("aria-sort", this.wanted.descending ? "descending" : "ascending");
        button.addEventListener("click", () => this.want({ sort: name, descending: this.wanted.sort === name && !this.wanted.descending ? "1" : "", offset: 0 }));
        heading.append(button);
        head.append(heading);
      });
      const focused = this.scroll.contains(document.activeElement) ? [...this.scroll.querySelectorAll("th button")].indexOf(document.activeElement) : -1;
      const left = this.scroll.scrollLeft;
      this.scroll.replaceChildren(table);
      this.scroll.scrollLeft = left;
      if (focused >= 0) this.scroll.querySelectorAll("th button")[focused]?.focus();
      const { offset, limit } = this.wanted;
      this.count.textContent = page.total ? `${offset + 1}–${Math.min(offset + limit, page.total)} of ${page.total}` : "none";
      this.before.disabled = offset === 0;
      this.after.disabled = offset + limit >= page.total;
    }
  }

  // Light and dark.

  const system = matchMedia("(prefers-color-scheme: dark)");

  function isDark() {
    const kept = localStorage.getItem("dhpo-theme");
    return kept ? kept === "dark" : system.matches;
  }

  function paint() {
    document.documentElement.classList.toggle("dark", isDark());
    const style = getComputedStyle(document.documentElement);
    const [text, line] = ["--text", "--line"].map((name) => style.getPropertyValue(name).trim());
    for (const bokeh of window.Bokeh?.documents ?? []) {
      for (const model of bokeh.all_models) {
        const changes = {};
        for (const name of ["axis_label_text_color", "major_label_text_color", "label_text_color", "title_text_color", "axis_line_color", "major_tick_line_color"]) {
          if (name in model.properties) changes[name] = text;
        }
        if (model.type === "LabelSet") changes.text_color = text;
        if ("grid_line_color" in model.properties && model.grid_line_color !== null) changes.grid_line_color = line;
        if (Object.keys(changes).length) model.setv(changes, { sync: false });
      }
    }
  }

  function start() {
    window.Bokeh?.set_log_level("error");  // a plot without data has no range yet: Bokeh would warn of it each time
    paint();
    system.addEventListener("change", paint);
    byId("theme").addEventListener("click", () => {
      localStorage.setItem("dhpo-theme", isDark() ? "light" : "dark");
      paint();
    });
    for (const tab of document.querySelectorAll("nav [data-tab]")) tab.addEventListener("click", () => open(tab.dataset.tab));
    if (byId(`tab-${location.hash.slice(1)}`)) open(location.hash.slice(1));
    for (const key of document.querySelectorAll("[data-key]")) key.addEventListener("click", () => hide(key));
    for (const id of ["objective", "x", "y"]) byId(id)?.addEventListener("change", send);
    byId("searches").addEventListener("change", (event) => { location.search = new URLSearchParams({ search: event.target.value }); });
    tables.push(new Table(byId("trials"), "trials.json", ["RUNNING", "PAUSED", "COMPLETED", "STOPPED", "FAILED", "TIMED_OUT", "KNOWN"], "trial"));
    tables.push(new Table(byId("workers"), "workers.json", []));
  }

  function open(name) {
    for (const tab of document.querySelectorAll("nav [data-tab]")) tab.setAttribute("aria-selected", tab.dataset.tab === name);
    for (const panel of document.querySelectorAll(".tab")) panel.hidden = panel.id !== `tab-${name}`;
    history.replaceState(null, "", `#${name}`);
    for (const table of tables) table.refresh();
  }

  function send() {
    const value = (id, otherwise) => [Number(byId(id)?.value || otherwise)];
    choose({ objective: value("objective", 0), x: value("x", 0), y: value("y", 1) });
  }

  function connect(callback) {
    choose = callback;
    paint();
  }

  document.addEventListener("DOMContentLoaded", start);
  return { show, connect };
})();
