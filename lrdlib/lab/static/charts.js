/* The charts of the lab: what each draws of a run, what of it moves with the step, and the same in words.
 *
 * A chart is {name, title, ...} with functions of a run, a record i (an index into run.steps) and a view:
 *   missing(run, view): why there is nothing to draw, or null
 *   axes(run, view), still(run, view), moving(run, i, view): as of draw.js
 *   legend(run, i, view): [{name, colour, dash, value}], the key with the values at record i
 *   words(run, i, view): what the chart shows, for those who cannot see it
 * run.tint: the colour of a run that shares its chart with another, or null; then colours say which run, dashes which curve.
 * Alone, accuracies have colours that are no rule's, and what is measured of the matrices that of the run's rule (inkOf).
 * run.slot: 0, or 1 for the second. square: such a chart is drawn once for each run, side by side; alone: of the first run only.
 * run.changes [{step, words}]: where a run that trains was given other values; drawn in the charts of steps.
 * scrubs: whether its x axis is the step, so that a pointer on it moves the lab.
 */

const ACCURACIES = {
  train_accuracy: {name: "train", colour: COLOURS.grey, dash: "dot", width: 2},
  test_accuracy: {name: "test", colour: COLOURS.pale, dash: "dash", width: 2},
  orbit_clean_accuracy: {name: "orbit-clean", colour: COLOURS.pink, dash: "solid", width: 2.5},
};
const RANKS = {
  qk_stable_rank: {name: "stable rank", dash: "solid", width: 2.5},
  qk_effective_rank: {name: "effective rank", dash: "dash", width: 2},
};
const FLOOR = 1e-6; // singular values below this part of the largest are drawn at the bottom
const ALIVE = 0.01;

const inkOf = (run) => run.tint ?? RULE_COLOURS[run.rule];

const recordedOf = (run, kinds) => Object.entries(kinds).filter(([metric]) => run.curves[metric]?.some(Number.isFinite));

const linesOf = (run, kinds) =>
  recordedOf(run, kinds).map(([metric, style]) => ({kind: "line", x: run.steps, y: run.curves[metric], ...style, colour: run.tint ?? style.colour ?? inkOf(run)}));

// The range over seeds, where a run has its chart for itself.
const bandOf = (run) => (run.tint ? null : run.bands);
const bandsOf = (run) =>
  recordedOf(run, ACCURACIES)
    .filter(() => bandOf(run))
    .map(([metric, {colour}]) => ({kind: "band", x: run.bands.steps, low: run.bands.low[metric], high: run.bands.high[metric], colour}));

const marksAt = (run, kinds, i) => [
  ...(run.slot ? [] : [{kind: "cursor", x: run.steps[i]}]), // one for both
  ...recordedOf(run, kinds).map(([metric, {colour}]) => ({kind: "dot", x: run.steps[i], y: run.curves[metric][i], colour: run.tint ?? colour ?? inkOf(run)})),
];

// Where the reader changed something while it trained.
const changesOf = (run, low, high) =>
  (run.changes ?? []).map(({step}) => ({kind: "line", x: [step, step], y: [low, high], colour: COLOURS.grey, dash: "dot", width: 1.5}));
const changeKey = (run) => (run.changes?.length ? [{name: "changed by hand", colour: COLOURS.grey, dash: "dot", value: ""}] : []);
const changeWords = (run) => (run.changes ?? []).map(({step, words}) => ` Changed after step ${step}: ${words}.`).join("");

// " (96% to 99%)", where the step is one that all seeds have recorded, and they differ.
const rangeAt = (run, metric, i, said) => {
  const at = bandOf(run)?.low[metric] ? run.bands.steps.indexOf(run.steps[i]) : -1;
  if (at < 0) return "";
  const all = [run.bands.low[metric][at], run.bands.high[metric][at], run.curves[metric][i]]; // rounded each on its own
  const [low, high] = [Math.min(...all), Math.max(...all)].map(said);
  return low === high ? "" : ` (${low} to ${high})`;
};

const valuesAt = (run, kinds, i, said) =>
  recordedOf(run, kinds).map(([metric, {name, colour, dash}]) => ({
    name, colour: run.tint ?? colour ?? inkOf(run), dash, value: said(run.curves[metric][i]) + rangeAt(run, metric, i, said),
  }));
const bandKey = (run) => (bandOf(run) ? [{name: "in brackets:", colour: COLOURS.grey, dash: "band", value: `range over ${run.bands.seeds} seeds`}] : []);

const spoken = (entries) => entries.map(({name, value}) => `${name} ${value}`).join(", ");

const lastStep = (view) => Math.max(1, view.until ?? 0, ...view.runs.map((run) => run.steps.at(-1) ?? 0));
const stepAxis = (view) => ({low: 0, high: lastStep(view), title: "step"});
const percentTick = (value) => `${Math.round(100 * value)}%`;

const accuracyChart = {
  name: "accuracy",
  title: "Accuracy",
  scrubs: true,
  missing: (run) => (recordedOf(run, ACCURACIES).length ? null : "No accuracy is recorded for this run."),
  axes: (_run, view) => ({x: stepAxis(view), y: {low: -0.02, high: 1.03, words: percentTick}}),
  still: (run) => [...bandsOf(run), ...changesOf(run, 0, 1), ...linesOf(run, ACCURACIES)],
  moving: (run, i) => marksAt(run, ACCURACIES, i),
  legend: (run, i) => [...valuesAt(run, ACCURACIES, i, percent), ...bandKey(run), ...changeKey(run)],
  words: (run, i) =>
    `Accuracy by step. At step ${run.steps[i]}: ${spoken(valuesAt(run, ACCURACIES, i, percent))}.${changeWords(run)}`,
};

const highestRank = (runs) =>
  runs
    .flatMap((run) => recordedOf(run, RANKS).flatMap(([metric]) => run.curves[metric]))
    .reduce((most, value) => (value > most ? value : most), 1);

const rankChart = {
  name: "rank",
  title: "Rank of query and key matrices",
  scrubs: true,
  missing: (run) => (recordedOf(run, RANKS).length ? null : "No rank is recorded for this run."),
  axes: (_run, view) => ({x: stepAxis(view), y: {low: 0, high: 1.05 * highestRank(view.runs)}}),
  still: (run, view) => [...changesOf(run, 0, highestRank(view.runs)), ...linesOf(run, RANKS)],
  moving: (run, i) => marksAt(run, RANKS, i),
  legend: (run, i) => valuesAt(run, RANKS, i, short),
  words: (run, i) =>
    `Mean rank of the query and key matrices by step. At step ${run.steps[i]}: ${spoken(valuesAt(run, RANKS, i, short))}.`,
};

const matrixOf = (run, view) => (run.spectra?.[view.matrix] ? view.matrix : Object.keys(run.spectra ?? {})[0]);
const spectrumAt = (run, i, view) => run.spectra[matrixOf(run, view)][i];
const matrixWords = (name) => `${name.split(".")[1]}, layer ${name.split(".")[0]}`;
const alive = (row) => row.filter((value) => value > ALIVE * row[0]).length;

// The line of sigma_i / sigma_1 over i.
const spectrumLine = (row, style) => ({
  x: row.map((_, k) => k + 1),
  y: row.map((value) => Math.max(value / row[0], FLOOR)),
  ...style,
});

const spectrumChart = {
  name: "spectrum",
  title: "Singular values",
  missing: (run, view) => {
    if (!Object.keys(run.spectra ?? {}).length) return "No singular values are recorded for this run.";
    if (view.matrix && !run.spectra[view.matrix]) return `Those of ${matrixWords(view.matrix)} are not recorded for this run.`;
    return null;
  },
  axes: (run, view) => ({
    x: {low: 0, high: Math.max(...view.runs.map((one) => (Object.keys(one.spectra ?? {}).length ? spectrumAt(one, 0, view).length : 0))) + 1, title: "singular value, by size"},
    y: {low: FLOOR, high: 1.4, log: true},
  }),
  still: (run, view) => [spectrumLine(spectrumAt(run, 0, view), {kind: "line", colour: COLOURS.grey, dash: "dot", width: 1.5})],
  moving: (run, i, view) =>
    ["area", "line"].map((kind) => spectrumLine(spectrumAt(run, i, view), {kind, colour: inkOf(run), width: 2.5})),
  legend: (run, i, view) => {
    const row = spectrumAt(run, i, view);
    const value = `${alive(row)} of ${row.length} above 1%${run.tint ? "" : " of the largest"}`;
    const now = {name: `step ${run.steps[i]}:`, colour: inkOf(run), dash: "solid", value};
    return run.tint ? [now] : [now, {name: `step ${run.steps[0]}`, colour: COLOURS.grey, dash: "dot", value: ""}];
  },
  words: (run, i, view) => {
    const row = spectrumAt(run, i, view);
    const name = matrixWords(matrixOf(run, view));
    return `Singular values of ${name} at step ${run.steps[i]}, each as part of the largest: ${alive(row)} of ${row.length} are above one percent.`;
  },
};

const strongest = (row, count = 5) =>
  row
    .map((share, k) => ({share, k: k + 1}))
    .sort((a, b) => b.share - a.share)
    .slice(0, count)
    .map(({share, k}) => `${k} (${percent(share)})`)
    .join(", ");

const fourierChart = {
  name: "fourier",
  title: "Fourier power of the embedding",
  missing: (run) => (run.fourier?.length ? null : "There is no Fourier power here: it was not recorded, or the task has no frequencies."),
  axes: (run, view) => {
    const shares = view.runs.flatMap((one) => (one.fourier ?? []).flat()).filter(Number.isFinite);
    const top = shares.reduce((most, value) => Math.max(most, value), 1e-6);
    return {
      x: {low: 0.3, high: Math.max(...view.runs.map((one) => one.fourier?.[0]?.length ?? 0)) + 0.7, title: "frequency"},
      y: {low: view.runs.length > 1 ? -1.05 * top : 0, high: 1.05 * top, words: (share) => `${Number((100 * Math.abs(share)).toPrecision(3))}%`},
    };
  },
  still: () => [],
  moving: (run, i) => [
    {kind: "bars", x: run.fourier[i].map((_, k) => k + 1), y: run.fourier[i].map((share) => (run.slot ? -share : share)), colour: inkOf(run)},
  ], // the second run hangs down
  legend: (run, i) => [{name: "strongest:", colour: inkOf(run), dash: "solid", value: strongest(run.fourier[i])}],
  words: (run, i) =>
    `Share of each frequency in the power of the embedding at step ${run.steps[i]}. The strongest frequencies: ${strongest(run.fourier[i])}.`,
};

const patternAt = (run, i) => recordAt(run.pattern.steps, run.steps[i]);

// Entries as pixels: the size of each, the largest in full colour.
const bytesOf = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const patternPixels = (values, colour) => {
  const top = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const ink = bytesOf(colour);
  return values.map((value) => [...ink, 255 * (Math.abs(value) / top) ** 0.6]);
};

const patternChart = {
  name: "pattern",
  title: "Query-key pattern of layer 0",
  square: true,
  missing: (run) => (run.pattern ? null : "This run was recorded without its matrices, so there is no pattern to show."),
  axes: (run) => ({
    x: {low: -0.5, high: run.pattern.size - 0.5, title: "key side"},
    y: {low: run.pattern.size - 0.5, high: -0.5, title: "query side"},
    square: true,
  }),
  still: () => [],
  same: patternAt, // what it moves with: which of the recorded patterns
  moving: (run, i) => [
    {kind: "image", down: run.pattern.size, across: run.pattern.size, pixels: patternPixels(run.pattern.values[patternAt(run, i)], inkOf(run))},
  ],
  legend: (run, i) => {
    const only = run.pattern.steps.length === 1 && run.steps.length > 1 ? " (the only one recorded)" : "";
    const value = `at step ${run.pattern.steps[patternAt(run, i)]}${only}`;
    return [{name: "size of each entry", colour: inkOf(run), dash: "scale", value}];
  },
  words: (run, i) =>
    `Size of the entries of the query-key product of layer 0 at step ${run.pattern.steps[patternAt(run, i)]}, ${run.pattern.size} by ${run.pattern.size}, the largest in full colour.`,
};

// The table of the task: which rows the network has been trained on, and which it answers rightly.
const TABLE_KINDS = [
  {name: "new, right", colour: COLOURS.pink},
  {name: "new, wrong", colour: "#7a6551"},
  {name: "trained, right", colour: "#b4b4b4"},
  {name: "trained, wrong", colour: "#4a4a4a"},
];
const tableAt = (run, i) => recordAt(run.table.steps, run.steps[i]);
const tableKinds = ({table: {trained, hits}}, at) => Array.from(hits[at], (hit, row) => 2 * trained[row] + (hit ? 0 : 1));
const tableCounts = (run, i) => {
  const counts = [0, 0, 0, 0];
  for (const kind of tableKinds(run, tableAt(run, i))) counts[kind] += 1;
  return TABLE_KINDS.map((kind, k) => ({...kind, dash: "block", value: counts[k]}));
};

const tableChart = {
  name: "table",
  title: "Every pair",
  square: true,
  alone: true,
  asks: true,
  missing: (run) => (run.table ? null : "Which pairs are right is known of a run that trains here, and is not stored with it."),
  axes: ({table: {down, across}}) => ({
    x: {low: -0.5, high: across - 0.5, title: "second, b"},
    y: {low: down - 0.5, high: -0.5, title: "first, a"},
    square: true,
  }),
  still: () => [],
  same: tableAt,
  moving: (run, i) => {
    const inks = TABLE_KINDS.map(({colour}) => [...bytesOf(colour), 255]);
    const {down, across} = run.table;
    return [{kind: "image", down, across, pixels: tableKinds(run, tableAt(run, i)).map((kind) => inks[kind])}];
  },
  legend: (run, i) => tableCounts(run, i),
  words: (run, i) => `Every row of the task's table at step ${run.steps[i]}: ${spoken(tableCounts(run, i))}.`,
};

const CHARTS = [accuracyChart, rankChart, spectrumChart, fourierChart, patternChart, tableChart];
