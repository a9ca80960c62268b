/* The five charts of the lab: what each draws of a run, what of it moves with the step, and the same in words.
 *
 * A chart is {key, title, missing(run), traces(run, view), layout(run, view), move(run, i, view), key...}:
 *   missing(run): why there is nothing to draw, or null
 *   move(run, i, view): {update, indices} for Plotly.restyle at record i, or null if only the cursor moves
 *   legend(run, i): [{name, colour, dash, value}], the key with the values at record i
 *   words(run, i): what the chart shows, for those who cannot see it
 */

const ACCURACIES = {
  train_accuracy: {name: "train", colour: COLOURS.orange, dash: "dot", width: 2},
  test_accuracy: {name: "test", colour: COLOURS.blue, dash: "dash", width: 2},
  orbit_clean_accuracy: {name: "unseen in either order", colour: COLOURS.pink, dash: "solid", width: 2.5},
};
const RANKS = {
  qk_stable_rank: {name: "stable rank", colour: COLOURS.violet, dash: "solid", width: 2.5},
  qk_effective_rank: {name: "effective rank", colour: COLOURS.brown, dash: "dash", width: 2},
};
const FLOOR = 1e-6; // singular values below this part of the largest are below the chart
const ALIVE = 0.01;

const recordedOf = (run, kinds) => Object.entries(kinds).filter(([name]) => run.curves[name]?.some(Number.isFinite));

const lines = (run, kinds, unit) =>
  recordedOf(run, kinds).map(([metric, {name, colour, dash, width}]) => ({
    type: "scatter",
    mode: run.steps.length > 1 ? "lines" : "markers",
    x: run.steps,
    y: run.curves[metric],
    name,
    line: {color: colour, dash, width},
    hovertemplate: `step %{x}: ${name} %{y${unit}}<extra></extra>`,
  }));

// The range over seeds, one closed shape behind the curves.
const bandsOf = (run) =>
  recordedOf(run, ACCURACIES)
    .filter(([metric]) => run.bands?.[metric])
    .map(([metric, {colour}]) => {
      const {low, high} = run.bands[metric];
      const known = run.steps.map((_, i) => i).filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]));
      const back = [...known].reverse();
      return {
        type: "scatter",
        mode: "lines",
        x: [...known, ...back].map((i) => run.steps[i]),
        y: [...known.map((i) => high[i]), ...back.map((i) => low[i])],
        fill: "toself",
        fillcolor: `${colour}33`,
        line: {width: 0},
        hoverinfo: "skip",
      };
    });

const valuesAt = (run, kinds, i, said) =>
  recordedOf(run, kinds).map(([metric, {name, colour, dash}]) => {
    const band = run.bands?.[metric];
    const seeds = band ? ` (${said(band.low[i])} to ${said(band.high[i])} over ${band.seeds} seeds)` : "";
    return {name, colour, dash, value: said(run.curves[metric][i]) + seeds};
  });

const spoken = (entries) => entries.map(({name, value}) => `${name} ${value}`).join(", ");

const lastStep = (view) => Math.max(1, view.until ?? 0, ...view.runs.map((run) => run.steps.at(-1) ?? 0));

const relative = (row) => row.map((value) => value / row[0]);
const alive = (row) => row.filter((value) => value > ALIVE * row[0]).length;

const accuracyChart = {
  name: "accuracy",
  title: "Accuracy",
  cursor: true,
  missing: (run) => (recordedOf(run, ACCURACIES).length ? null : "No accuracy is recorded for this run."),
  traces: (run) => [...bandsOf(run), ...lines(run, ACCURACIES, ":.1%")],
  layout: (run, view) => ({
    xaxis: {range: [0, lastStep(view)], title: {text: "step"}},
    yaxis: {range: [-0.02, 1.03], tickformat: ".0%"},
  }),
  legend: (run, i) => valuesAt(run, ACCURACIES, i, percent),
  words: (run, i) => `Accuracy by step. At step ${run.steps[i]}: ${spoken(valuesAt(run, ACCURACIES, i, percent))}.`,
};

const rankChart = {
  name: "rank",
  title: "Rank of query and key matrices",
  cursor: true,
  missing: (run) => (recordedOf(run, RANKS).length ? null : "No rank is recorded for this run."),
  traces: (run) => lines(run, RANKS, ":.3~g"),
  layout: (run, view) => {
    const all = view.runs.flatMap((one) => recordedOf(one, RANKS).flatMap(([metric]) => one.curves[metric]));
    const top = all.reduce((most, value) => (value > most ? value : most), 1);
    return {xaxis: {range: [0, lastStep(view)], title: {text: "step"}}, yaxis: {range: [0, 1.05 * top]}};
  },
  legend: (run, i) => valuesAt(run, RANKS, i, short),
  words: (run, i) => `Mean rank of the query and key matrices by step. At step ${run.steps[i]}: ${spoken(valuesAt(run, RANKS, i, short))}.`,
};

const matrixOf = (run, view) => (run.spectra?.[view.matrix] ? view.matrix : Object.keys(run.spectra ?? {})[0]);

const spectrumChart = {
  name: "spectrum",
  title: "Singular values",
  missing: (run, view) =>
    Object.keys(run.spectra ?? {}).length
      ? view.matrix && !run.spectra[view.matrix]
        ? `The singular values of ${matrixWords(view.matrix)} are not recorded for this run.`
        : null
      : "No singular values are recorded for this run.",
  traces: (run, view) => {
    const rows = run.spectra[matrixOf(run, view)];
    const x = rows[0].map((_, k) => k + 1);
    const style = {type: "scatter", mode: "lines", x};
    return [
      {...style, y: relative(rows[0]), line: {color: COLOURS.grey, width: 1.5, dash: "dot"}, hoverinfo: "skip"},
      {
        ...style,
        y: relative(rows[0]),
        line: {color: COLOURS.violet, width: 2.5},
        fill: "tozeroy",
        fillcolor: `${COLOURS.violet}22`,
        hovertemplate: "σ%{x} is %{y:.2~g} of the largest<extra></extra>",
      },
    ];
  },
  layout: (run, view) => ({
    xaxis: {range: [0, run.spectra[matrixOf(run, view)][0].length + 1], title: {text: "singular value, by size"}},
    yaxis: {type: "log", range: [Math.log10(FLOOR), 0.15], exponentformat: "power", dtick: 1},
  }),
  move: (run, i, view) => ({update: {y: [relative(run.spectra[matrixOf(run, view)][i])]}, indices: [1]}),
  legend: (run, i, view) => {
    const row = run.spectra[matrixOf(run, view)][i];
    return [
      {name: `at step ${run.steps[i]}:`, colour: COLOURS.violet, dash: "solid", value: `${alive(row)} of ${row.length} above 1% of the largest`},
      {name: `at step ${run.steps[0]}`, colour: COLOURS.grey, dash: "dot", value: ""},
    ];
  },
  words: (run, i, view) => {
    const row = run.spectra[matrixOf(run, view)][i];
    return `Singular values of ${matrixWords(matrixOf(run, view))} at step ${run.steps[i]}, each as part of the largest: ${alive(row)} of ${row.length} are above one percent.`;
  },
};

const matrixWords = (name) => {
  const [layer, role] = name.split(".");
  return `${role}, layer ${layer}`;
};

const strongest = (row) => row.map((value, k) => [value, k + 1]).sort((a, b) => b[0] - a[0]).slice(0, 3);

const fourierChart = {
  name: "fourier",
  title: "Fourier power of the embedding",
  missing: (run) => (run.fourier?.length ? null : "The Fourier power of the embedding is not recorded for this run."),
  traces: (run) => [
    {
      type: "bar",
      x: run.fourier[0].map((_, k) => k + 1),
      y: run.fourier[0],
      marker: {color: COLOURS.blue},
      hovertemplate: "frequency %{x}: %{y:.1%} of the power<extra></extra>",
    },
  ],
  layout: (run, view) => {
    const top = Math.max(...view.runs.flatMap((one) => (one.fourier ?? []).map((row) => Math.max(...row.filter(Number.isFinite)))));
    return {
      xaxis: {range: [0.3, run.fourier[0].length + 0.7], title: {text: "frequency"}},
      yaxis: {range: [0, 1.05 * top], tickformat: ".0%"},
      bargap: 0.15,
    };
  },
  move: (run, i) => ({update: {y: [run.fourier[i]]}, indices: [0]}),
  legend: (run, i) => [
    {name: "strongest:", colour: COLOURS.blue, dash: "solid", value: strongest(run.fourier[i]).map(([share, k]) => `${k} (${percent(share)})`).join(", ")},
  ],
  words: (run, i) =>
    `Share of each frequency in the power of the embedding at step ${run.steps[i]}. The strongest: ${strongest(run.fourier[i])
      .map(([share, k]) => `frequency ${k} with ${percent(share)}`)
      .join(", ")}.`,
};

// The square of percents that heatmaps take, row by row, of |value| / max |value|.
const square = ({size, values}, i) => {
  const top = values[i].reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const percents = values[i].map((value) => Math.round((1000 * Math.abs(value)) / top) / 10);
  return Array.from({length: size}, (_, row) => percents.slice(row * size, (row + 1) * size));
};

const patternChart = {
  name: "pattern",
  title: "Query-key pattern of layer 0",
  square: true,
  missing: (run) =>
    run.pattern ? null : "This run was recorded without its matrices, so there is no pattern to show. Its spectra are beside.",
  traces: (run) => [
    {
      type: "heatmap",
      z: square(run.pattern, 0),
      zmin: 0,
      zmax: 100,
      colorscale: [[0, `${COLOURS.violet}00`], [0.25, `${COLOURS.violet}88`], [1, COLOURS.violet]],
      showscale: false,
      hovertemplate: "query side %{y}, key side %{x}: %{z}% of the largest<extra></extra>",
    },
  ],
  layout: (run) => ({
    xaxis: {range: [-0.5, run.pattern.size - 0.5], title: {text: "key side"}, showgrid: false, constrain: "domain"},
    yaxis: {range: [run.pattern.size - 0.5, -0.5], title: {text: "query side"}, showgrid: false, scaleanchor: "x", constrain: "domain"},
  }),
  row: (run, i) => recordAt(run.pattern.steps, run.steps[i]), // which of the recorded patterns
  move: (run, i) => ({update: {z: [square(run.pattern, recordAt(run.pattern.steps, run.steps[i]))]}, indices: [0]}),
  legend: (run, i) => {
    const at = run.pattern.steps[recordAt(run.pattern.steps, run.steps[i])];
    const only = run.pattern.steps.length === 1 ? ", the only one that is recorded" : "";
    return [{name: "size of each entry", colour: COLOURS.violet, dash: "solid", value: `at step ${at}${only}`}];
  },
  words: (run, i) =>
    `Absolute entries of the query-key product of layer 0 at step ${run.pattern.steps[recordAt(run.pattern.steps, run.steps[i])]}, ${run.pattern.size} by ${run.pattern.size}.`,
};

const CHARTS = [accuracyChart, rankChart, spectrumChart, fourierChart, patternChart];
