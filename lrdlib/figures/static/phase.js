/* A phase diagram's cells answer: click one, or choose it by keyboard, and its curves are drawn below.
 *
 * Works on any figure whose layout.meta.phase is what lrdlib/figures/phase.py writes there:
 *   panels, rows, columns: labels; prefix: what rows are ("λ = "); selected: [panel, row, column]
 *   heat: the trace of each panel; first: the first of the curves' traces, four to a seed; seeds: one per slot of four
 *   note, frame: which annotation is the curves' headline, which shape goes around the selected cell
 *   steps: arrays of steps; curves: "panel,row,column" -> [[slot, steps, test, orbit-clean, train, rank], ...], where a
 *   number is two digits (of `digits`, in base 64) and stands for itself over its `units`; "~~" is none
 */
(() => {
  "use strict";

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const text = (hover) => hover.replaceAll("<br>   ", "; ").replaceAll("<br>", "\n").replace(/<[^>]*>/g, "");

  // The traces of one cell: x, y and whether the legend names it, four to a seed.
  const traces = (phase, key) => {
    const update = {x: [], y: [], showlegend: []};
    phase.seeds.forEach((_, slot) => {
      const run = (phase.curves[key] ?? []).find(([theirs]) => theirs === slot);
      const steps = run ? phase.steps[run[1]] : [];
      phase.units.forEach((unit, kind) => {
        const values = (run?.[2 + kind].match(/../g) ?? []).map(([a, b]) =>
          a === "~" ? null : (64 * phase.digits.indexOf(a) + phase.digits.indexOf(b)) / unit,
        );
        update.x.push(values.length ? steps : []);
        update.y.push(values);
        update.showlegend.push(kind === 0 && Boolean(run));
      });
    });
    return update;
  };

  const attach = (plot, phase) => {
    const [panel, row, column] = [phase.panels, phase.rows, phase.columns].map((labels) =>
      element("select", {}, ...labels.map((label, value) => element("option", {value, textContent: label}))),
    );
    const say = element("p", {className: "lrd-cell"});
    say.setAttribute("role", "status");
    const indices = [...Array(phase.seeds.length * phase.units.length).keys()].map((i) => phase.first + i);

    const describe = (key, [p, r, c]) => {
      const hover = plot.data[phase.heat[p]].hovertext[r][c];
      const command = plot.data[phase.heat[p]].customdata[r][c];
      say.replaceChildren(hover ? text(hover) : "This cell is not part of the grid.");
      if (command) say.append(element("code", {textContent: command.replaceAll("<br>", " ")}));
    };

    const show = () => {
      const place = [panel, row, column].map((select) => Number(select.value));
      const [p, r, c] = place;
      const key = place.join();
      const empty = key in phase.curves ? "" : " — not recorded yet";
      const cell = `fraction ${phase.columns[c]}, ${phase.prefix}${phase.rows[r]}`;
      const {xaxis = "x", yaxis = "y"} = plot.data[phase.heat[p]];
      const frame = {xref: xaxis, yref: yaxis, x0: c - 0.5, x1: c + 0.5, y0: r - 0.5, y1: r + 0.5};
      const layout = {[`annotations[${phase.note}].text`]: `<b>${phase.panels[p]}</b>${empty}<br>${cell}`};
      for (const [part, value] of Object.entries(frame)) layout[`shapes[${phase.frame}].${part}`] = value;
      window.Plotly.update(plot, traces(phase, key), layout, indices);
      describe(key, place);
    };

    [panel.value, row.value, column.value] = phase.selected;
    for (const select of [panel, row, column]) select.addEventListener("change", show);
    plot.on("plotly_click", ({points: [{curveNumber, x, y}]}) => {
      const p = phase.heat.indexOf(curveNumber);
      if (p < 0) return; // a point of a curve
      [panel.value, row.value, column.value] = [p, y, x];
      show();
      if (window.matchMedia("(max-width: 600px)").matches) say.scrollIntoView({block: "nearest"});
    });
    const label = (name, select) => {
      select.setAttribute("aria-label", name);
      return element("label", {className: "lrd-choice"}, name, select);
    };
    const choices = [label("rule", panel), label("fraction", column), label(phase.prefix.replace(/[\s=]+$/, ""), row)];
    const lead = element("span", {textContent: "Click a cell, or choose one here:"});
    plot.parentElement.append(element("div", {className: "lrd-controls lrd-choices"}, lead, ...choices, say));
    describe(phase.selected.join(), phase.selected);
  };

  document.addEventListener("lrd:drawn", ({target}) => {
    if (target.layout.meta?.phase) attach(target, target.layout.meta.phase);
  });
})();
