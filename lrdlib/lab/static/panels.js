/* The linked panels of the lab, for runs from any source.
 *
 * makePanels(root, Plotly) -> {show(view), at(step), remove()}. show draws everything anew, a chart at a time, so that
 * the page stays responsive; at(step) moves what depends on the step. A click on a curve sends "lrd:step", another
 * choice of matrix "lrd:matrix". A view is
 *   {runs: [run, ...], step, until?, matrix?}   1 or 2 runs; until: where the axis of steps ends
 *   run = {name, note, steps, curves: {metric: [..]}, bands?: {metric: {low, high, seeds}},
 *          spectra: {"0.query": [[..], ..]}, fourier: [[..], ..] | null, pattern: {size, steps, values} | null}
 * A record is an index into run.steps. What a run does not have, its panel says in words.
 */

const MARGIN = {l: 46, r: 12, t: 8, b: 40};
const CONFIG = {responsive: true, displayModeBar: false, doubleClick: false, scrollZoom: false};

const dressed = (root, layout) => {
  const {ink, line} = colours(root);
  const axis = {gridcolor: line, linecolor: line, tickcolor: line, zeroline: false, showline: true, fixedrange: true, title: {standoff: 4}};
  const merged = (own) => ({...axis, ...own, title: {...axis.title, ...own.title}});
  return {
    ...layout,
    xaxis: merged(layout.xaxis),
    yaxis: merged(layout.yaxis),
    margin: MARGIN,
    showlegend: false,
    dragmode: false,
    hovermode: "closest",
    paper_bgcolor: "rgba(0, 0, 0, 0)",
    plot_bgcolor: "rgba(0, 0, 0, 0)",
    font: {family: "system-ui, sans-serif", size: 12, color: ink},
  };
};

const keyEntry = ({name, colour, dash, value}) => {
  const mark = element("i", {"aria-hidden": "true"});
  mark.style.borderTop = `3px ${{solid: "solid", dash: "dashed", dot: "dotted"}[dash]} ${colour}`;
  return element("span", {}, mark, `${name} ${value}`);
};

// One chart of one run: its plot, its cursor, its key and, where there is nothing to draw, the reason.
const makeChart = (root, Plotly, chart, slot) => {
  const plot = element("div", {className: "lab-plot", role: "img"});
  const cursor = element("div", {className: "lab-cursor", hidden: true});
  const name = element("figcaption", {className: "lab-run"});
  const key = element("div", {className: "lab-key"});
  const none = element("p", {className: "lab-none", hidden: true});
  const box = element("div", {className: chart.square ? "lab-box lab-square" : "lab-box"}, plot, cursor);
  const figure = element("figure", {className: "lab-chart"}, name, key, box, none);
  let drawn = null; // the run and the record that are drawn
  let view = null;

  const words = (run, i) => {
    plot.setAttribute("aria-label", `${view.runs.length > 1 ? `${run.name}. ` : ""}${chart.words(run, i, view)}`);
    key.replaceChildren(...chart.legend(run, i, view).map(keyEntry));
    if (!chart.cursor) return;
    const share = run.steps[i] / lastStep(view);
    cursor.style.left = `calc(${MARGIN.l}px + (100% - ${MARGIN.l + MARGIN.r}px) * ${share})`;
  };

  const at = (step) => {
    if (!drawn) return;
    const i = recordAt(drawn.run.steps, step);
    if (i === drawn.i) return;
    const row = chart.row ?? ((_, record) => record);
    if (chart.move && row(drawn.run, i) !== row(drawn.run, drawn.i)) {
      const {update, indices} = chart.move(drawn.run, i, view);
      Plotly.restyle(plot, update, indices);
    }
    drawn.i = i;
    words(drawn.run, i);
  };

  const show = async (next) => {
    view = next;
    const run = view.runs[slot];
    const missing = chart.missing(run, view);
    name.textContent = view.runs.length > 1 ? run.name : "";
    name.hidden = view.runs.length < 2;
    none.textContent = missing ?? "";
    none.hidden = missing === null;
    box.hidden = key.hidden = missing !== null;
    if (missing !== null) return void (drawn = null);
    const i = recordAt(run.steps, view.step);
    const data = chart.traces(run, view);
    if (chart.move) {
      const {update, indices} = chart.move(run, i, view);
      for (const [part, values] of Object.entries(update)) indices.forEach((trace, n) => (data[trace][part] = values[n]));
    }
    cursor.hidden = !chart.cursor;
    const fresh = !plot.data;
    await Plotly.react(plot, data, dressed(root, chart.layout(run, view)), CONFIG);
    if (fresh && chart.cursor)
      plot.on("plotly_click", ({points}) =>
        root.dispatchEvent(new CustomEvent("lrd:step", {detail: points[0].x, bubbles: true})),
      );
    drawn = {run, i};
    words(run, i);
  };

  const recolour = () => drawn && Plotly.relayout(plot, dressed(root, chart.layout(drawn.run, view)));
  const remove = () => plot.data && Plotly.purge(plot);
  return {figure, show, at, recolour, remove};
};

const makePanels = (root, Plotly) => {
  let charts = [];
  let view = null;
  let turn = 0; // the newest show wins
  let slots = 0;
  const select = element("select", {
    onchange: () => {
      view = {...view, matrix: select.value};
      root.dispatchEvent(new CustomEvent("lrd:matrix", {detail: select.value, bubbles: true}));
      charts.filter(({chart}) => chart === spectrumChart).forEach((one) => one.show(view));
    },
  });

  const build = (count) => {
    charts.forEach((one) => one.remove());
    slots = count;
    charts = [];
    const panels = CHARTS.map((chart) => {
      const own = Array.from({length: count}, (_, slot) => ({chart, ...makeChart(root, Plotly, chart, slot)}));
      charts.push(...own);
      const title = element("h4", {className: "lab-title", textContent: chart.title});
      const head = element("div", {className: "lab-head"}, title, chart === spectrumChart ? labelled("of matrix", select) : null);
      const pair = element("div", {className: "lab-pair"}, ...own.map((one) => one.figure));
      return element("section", {className: "lab-panel", "data-panel": chart.name, "aria-label": chart.title}, head, pair);
    });
    root.replaceChildren(element("div", {className: "lab-panels", "data-runs": count}, ...panels));
  };

  const matrices = () => [...new Set(view.runs.flatMap((run) => Object.keys(run.spectra ?? {})))];

  const show = async (next) => {
    const mine = ++turn;
    const names = () => matrices().join();
    const before = view && names();
    view = {...next, matrix: next.matrix ?? view?.matrix};
    if (slots !== view.runs.length) build(view.runs.length);
    if (!matrices().includes(view.matrix)) view.matrix = matrices()[0];
    if (before !== names()) fill(select, matrices().map((value) => ({value, text: matrixWords(value)})), view.matrix);
    select.value = view.matrix ?? "";
    for (const one of charts) {
      if (mine !== turn) return;
      await one.show(view);
      await pause(); // a task of its own for each chart
    }
  };

  const at = (step) => {
    if (!view) return;
    view.step = step;
    charts.forEach((one) => one.at(step));
  };

  const recolour = new MutationObserver(() => charts.forEach((one) => one.recolour()));
  recolour.observe(document.documentElement, {attributeFilter: ["data-theme"]});
  recolour.observe(document.body, {attributeFilter: ["data-jp-theme-light", "data-vscode-theme-kind"]});
  const remove = () => {
    recolour.disconnect();
    charts.forEach((one) => one.remove());
  };
  return {show, at, remove};
};
