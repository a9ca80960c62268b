/* The linked panels of the lab, for runs from any source.
 *
 * makePanels(root, level) -> {show(view), at(step), remove()}. level: of their headings. show draws everything anew;
 * at(step) moves what depends on the step. A pointer on a chart of steps sends "lrd:step" from root, another choice of
 * matrix "lrd:matrix". A view is
 *   {runs: [run, ...], step, until?, matrix?}   1 or 2 runs; until: where the axis of steps ends
 *   run = {name, note, steps, curves: {metric: [..]}, bands?: {seeds, steps, low: {metric: [..]}, high} | null,
 *          spectra: {"0.query": [[..], ..]}, fourier: [[..], ..] | null, pattern: {size, steps, values} | null}
 * A record is an index into run.steps. What a run does not have, its panel says in words.
 */

const keyEntry = ({name, colour, dash, value}) => {
  const mark = element("i", {"aria-hidden": "true", className: {scale: "lab-scale", band: "lab-range"}[dash] ?? ""});
  if (dash === "band") mark.style.background = colour;
  else if (dash === "scale") mark.style.backgroundImage = `linear-gradient(90deg, transparent, ${colour})`; // of an image
  else mark.style.borderTop = `3px ${{solid: "solid", dash: "dashed", dot: "dotted"}[dash]} ${colour}`;
  return element("span", {}, mark, `${name} ${value}`);
};

// One chart of one run: its plot, its key and, where there is nothing to draw, the reason.
const makeChart = (root, chart, slot) => {
  const box = element("div", {className: chart.square ? "lab-plot lab-square" : "lab-plot", role: "img"});
  const name = element("figcaption", {className: "lab-run"});
  const key = element("div", {className: "lab-key"});
  const none = element("p", {className: "lab-none", hidden: true});
  const figure = element("figure", {className: "lab-chart"}, name, key, box, none);
  const plot = makePlot(box);
  const same = chart.same ?? ((_run, i) => i);
  let drawn = null; // the run and the record that are drawn
  let view = null;

  const say = (run, i) => {
    box.setAttribute("aria-label", `${view.runs.length > 1 ? `${run.name}. ` : ""}${chart.words(run, i, view)}`);
    key.replaceChildren(...chart.legend(run, i, view).map(keyEntry));
  };

  const at = (step) => {
    if (!drawn) return;
    const {run} = drawn;
    const i = recordAt(run.steps, step);
    if (i === drawn.i) return;
    if (same(run, i) !== same(run, drawn.i)) plot.move(chart.moving(run, i, view));
    drawn.i = i;
    say(run, i);
  };

  const show = (next) => {
    view = next;
    const run = view.runs[slot];
    const missing = chart.missing(run, view);
    name.textContent = run.name;
    name.hidden = view.runs.length < 2;
    none.textContent = missing ?? "";
    none.hidden = missing === null;
    box.hidden = key.hidden = missing !== null;
    drawn = missing === null ? {run, i: recordAt(run.steps, view.step)} : null;
    if (!drawn) return;
    plot.draw(chart.axes(run, view), chart.still(run, view), chart.moving(run, drawn.i, view));
    say(run, drawn.i);
  };

  if (chart.scrubs) {
    box.classList.add("lab-scrubs");
    const scrub = ({clientX, buttons}) =>
      drawn && buttons && root.dispatchEvent(new CustomEvent("lrd:step", {detail: plot.at(clientX), bubbles: true}));
    box.addEventListener("pointerdown", scrub);
    box.addEventListener("pointermove", scrub);
  }
  return {chart, figure, show, at, remove: plot.remove};
};

const makePanels = (root, level = 3) => {
  let charts = [];
  let view = null;
  let listed = null;
  const select = element("select", {
    "aria-label": "matrix",
    onchange: () => {
      view = {...view, matrix: select.value};
      root.dispatchEvent(new CustomEvent("lrd:matrix", {detail: select.value, bubbles: true}));
      charts.filter(({chart}) => chart === spectrumChart).forEach((one) => one.show(view));
    },
  });

  const build = (count) => {
    charts.forEach((one) => one.remove());
    charts = [];
    const panels = CHARTS.map((chart) => {
      const own = Array.from({length: count}, (_, slot) => makeChart(root, chart, slot));
      charts.push(...own);
      const title = element("h4", {className: "lab-title", textContent: chart.title, "aria-level": level});
      const head = element("div", {className: "lab-head"}, title, chart === spectrumChart ? labelled("of", select) : null);
      const pair = element("div", {className: "lab-pair"}, ...own.map((one) => one.figure));
      return element("section", {className: "lab-panel", "data-panel": chart.name, "aria-label": chart.title}, head, pair);
    });
    root.replaceChildren(element("div", {className: "lab-panels", "data-runs": count}, ...panels));
  };

  const show = (next) => {
    const matrices = [...new Set(next.runs.flatMap((run) => Object.keys(run.spectra ?? {})))];
    const wish = next.matrix ?? view?.matrix;
    view = {...next, matrix: matrices.includes(wish) ? wish : matrices[0]};
    if (charts.length !== CHARTS.length * view.runs.length) build(view.runs.length);
    if (listed !== matrices.join()) fill(select, matrices.map((value) => ({value, text: matrixWords(value)})), view.matrix);
    listed = matrices.join();
    select.value = view.matrix ?? "";
    root.toggleAttribute("data-bands", view.runs.some((run) => run.bands));
    charts.forEach((one) => one.show(view));
  };

  const at = (step) => {
    if (!view) return;
    view.step = step;
    charts.forEach((one) => one.at(step));
  };
  return {show, at, remove: () => charts.forEach((one) => one.remove())};
};
