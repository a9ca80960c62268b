/* The linked panels of the lab, for runs from any source.
 *
 * makePanels(root, level, names, shy) -> {show(view), at(step), remove()}. level: of their headings; names: of the charts;
 * shy: of those, last, that are not there where a run has nothing for them. show draws everything anew, in parts: it is a
 * promise of its end, or of its being overtaken by another; at(step) moves what depends on the step. A pointer on a chart of steps sends "lrd:step" from root, one on the table of pairs "lrd:pair"
 * with {a, b}, another choice of matrix "lrd:matrix". A view is
 *   {runs: [run, ...], step, until?, matrix?}   1 or 2 runs, in one chart where they can; until: where the axis of steps ends
 *   run = {name, note, rule, steps, curves: {metric: [..]}, bands?: {seeds, steps, low: {metric: [..]}, high} | null,
 *          spectra: {"0.query": [[..], ..]}, fourier: [[..], ..] | null, pattern: {size, steps, values} | null,
 *          table?: {down, across, trained, steps, hits: [[..], ..]} | null}
 * rule: one of RULE_COLOURS. A record is an index into run.steps. What a run does not have, its
 * panel says in words.
 */

const keyEntry = ({name, colour, dash, value}) => {
  const mark = element("i", {"aria-hidden": "true", className: {scale: "lab-scale", band: "lab-range", block: "lab-block"}[dash] ?? ""});
  if (dash === "band" || dash === "block") mark.style.background = colour;
  else if (dash === "scale") mark.style.backgroundImage = `linear-gradient(90deg, transparent, ${colour})`; // of an image
  else mark.style.borderTop = `3px ${{solid: "solid", dash: "dashed", dot: "dotted"}[dash]} ${colour}`;
  return element("span", {}, mark, `${name} ${value}`);
};

// Of two runs in one chart: the colours of their rules, as lrdlib/figures/canvas.py has them, whose RULE_COLOURS, LAST_OF
// and rule_colours these are (a test holds them to it).
const RULE_COLOURS = {
  none: "#797979",
  l2: "#378eca",
  "l2 on blocks": "#426781",
  lrd: "#cc7518",
  "lrd on qk": "#895c31",
  elastic: "#6058e8",
  proximal: "#ab8e73",
};
const LAST_OF = {none: "#646464", l2: "#426781", lrd: "#895c31", elastic: "#8a84f2", proximal: "#7d6651"};
// The rule that acts in a run of this config, as RULE_COLOURS names it (lrdlib.figures.canvas.rule_of).
const actingRule = ({rule, weight_decay, l2, l2_on, select}) => {
  if (!weight_decay) return l2 ? "l2" : "none";
  if (rule === "l2" && l2_on === "selected") return "l2 on blocks";
  if (rule === "lrd" && select === "qk") return "lrd on qk";
  return Object.hasOwn(RULE_COLOURS, rule) ? rule : "none"; // a file may say anything
};
const tintsOf = ([first, second]) => {
  const other = first.includes(" on ") ? RULE_COLOURS[first.split(" on ")[0]] : LAST_OF[first];
  return [RULE_COLOURS[first], first === second ? other : RULE_COLOURS[second]];
};

// act(event) wherever a mouse is down, a finger goes sideways or taps. What it does up or down is the page's: which of them
// it means shows only as it moves.
const SIDEWAYS = 6; // CSS pixels that no finger which lies still moves
const onScrub = (box, act) => {
  let down = null; // where a finger came down that has not gone sideways yet
  box.addEventListener("pointerdown", (event) => {
    down = event.pointerType === "mouse" ? null : event;
    if (!down) act(event);
  });
  box.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    const [across, along] = down ? [event.clientX - down.clientX, event.clientY - down.clientY].map(Math.abs) : [Infinity, 0];
    if (across <= Math.max(along, SIDEWAYS)) return;
    down = null;
    act(event);
  });
  box.addEventListener("pointercancel", () => (down = null));
  box.addEventListener("click", (event) => {
    if (down) act(event);
    down = null;
  });
};

// One chart of some of the view's runs: its plot, its key and, where there is nothing to draw of a run, the reason.
const makeChart = (root, chart, slots) => {
  const box = element("div", {className: chart.square ? "lab-plot lab-square" : "lab-plot", role: "img"});
  const name = element("figcaption", {className: "lab-run"});
  const key = element("div", {className: "lab-key"});
  const none = element("p", {className: "lab-none", hidden: true});
  const figure = element("figure", {className: "lab-chart"}, name, key, box, none);
  const plot = makePlot(box);
  const same = chart.same ?? ((_run, i) => i);
  let drawn = []; // {run, i} of each run that is drawn: the run and the record
  let view = null;

  const moving = () => drawn.flatMap(({run, i}) => chart.moving(run, i, view));
  const keyOf = ({run, i}) => {
    const entries = chart.legend(run, i, view).map(keyEntry);
    return drawn.length < 2 ? entries : [element("div", {className: "lab-key-run"}, element("strong", {textContent: `${run.name}:`}), ...entries)];
  };
  const say = () => {
    box.setAttribute("aria-label", drawn.map(({run, i}) => `${view.runs.length > 1 ? `${run.name}. ` : ""}${chart.words(run, i, view)}`).join(" "));
    key.replaceChildren(...drawn.flatMap(keyOf));
  };

  const at = (step) => {
    const next = drawn.map(({run}) => ({run, i: recordAt(run.steps, step)}));
    const before = drawn;
    if (!next.some(({i}, k) => i !== before[k].i)) return;
    drawn = next;
    if (next.some(({run, i}, k) => same(run, i) !== same(run, before[k].i))) plot.move(moving());
    say();
  };

  const show = (next) => {
    view = next;
    const runs = slots.map((slot) => view.runs[slot]);
    const missing = runs.map((run) => ({run, why: chart.missing(run, view)}));
    const lacks = missing.filter(({why}) => why !== null);
    name.textContent = runs[0].name;
    name.hidden = view.runs.length < 2 || slots.length > 1;
    none.textContent = lacks.map(({run, why}) => (runs.length > 1 ? `${run.name}: ${why}` : why)).join(" ");
    none.hidden = !lacks.length;
    drawn = missing.filter(({why}) => why === null).map(({run}) => ({run, i: recordAt(run.steps, view.step)}));
    box.hidden = key.hidden = !drawn.length;
    if (!drawn.length) return;
    plot.draw(chart.axes(drawn[0].run, view), drawn.flatMap(({run}) => chart.still(run, view)), moving());
    say();
  };

  const send = (kind, detail) => root.dispatchEvent(new CustomEvent(kind, {detail, bubbles: true}));
  if (chart.scrubs) {
    box.classList.add("lab-scrubs");
    onScrub(box, ({clientX, clientY}) => drawn.length && send("lrd:step", plot.at(clientX, clientY)[0]));
  }
  if (chart.asks)
    box.addEventListener("click", ({clientX, clientY}) => {
      const [b, a] = plot.at(clientX, clientY).map(Math.round);
      if (drawn.length) send("lrd:pair", {a, b});
    });
  return {chart, figure, show, at, measure: plot.measure, remove: plot.remove};
};

const makePanels = (root, level = 3, names = ["accuracy", "rank", "spectrum", "fourier", "pattern"], shy = []) => {
  const kinds = CHARTS.filter(({name}) => names.includes(name));
  let charts = [];
  let view = null;
  let listed = null;
  let built = 0; // for how many runs
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
    const slots = Array.from({length: count}, (_, slot) => slot);
    const panels = kinds.map((chart) => {
      const shares = chart.alone ? [[0]] : chart.square ? slots.map((slot) => [slot]) : [slots];
      const own = shares.map((some) => makeChart(root, chart, some));
      charts.push(...own);
      const title = element("h4", {className: "lab-title", textContent: chart.title, "aria-level": level});
      const head = element("div", {className: "lab-head"}, title, chart === spectrumChart ? labelled("of", select) : null);
      const pair = element("div", {className: "lab-pair"}, ...own.map((one) => one.figure));
      return element("section", {className: "lab-panel", "data-panel": chart.name, "aria-label": chart.title}, head, pair);
    });
    root.replaceChildren(element("div", {className: "lab-panels", "data-runs": count}, ...panels));
  };

  const show = async (next) => {
    let start = performance.now();
    const matrices = [...new Set(next.runs.flatMap((run) => Object.keys(run.spectra ?? {})))];
    const wish = next.matrix ?? view?.matrix;
    const tints = next.runs.length > 1 ? tintsOf(next.runs.map(({rule}) => rule)) : [null];
    const runs = next.runs.map((run, slot) => ({...run, slot, tint: tints[slot]}));
    view = {...next, runs, matrix: matrices.includes(wish) ? wish : matrices[0]};
    if (built !== runs.length) build((built = runs.length));
    if (listed !== matrices.join()) fill(select, matrices.map((value) => ({value, text: matrixWords(value)})), view.matrix);
    listed = matrices.join();
    select.value = view.matrix ?? "";
    root.toggleAttribute("data-bands", view.runs.some(bandOf));
    for (const {chart, figure} of charts)
      if (shy.includes(chart.name)) {
        const section = figure.closest("section");
        chart.missing(view.runs[0], view) === null ? root.firstElementChild.append(section) : section.remove();
      }
    const mine = view;
    charts.forEach((one) => one.measure());
    for (const one of charts) {
      if (performance.now() - start > PART) {
        await rest();
        if (view !== mine) return;
        start = performance.now();
      }
      one.show(view);
    }
  };

  const at = (step) => {
    if (!view) return;
    view.step = step;
    charts.forEach((one) => one.at(step));
  };
  return {show, at, remove: () => charts.forEach((one) => one.remove())};
};
