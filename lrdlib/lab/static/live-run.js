/* A run that comes record by record, as panels.js draws it, and what was changed by hand in it, in words. */

const LIVE_RULES = {none: "no decay", l2: "L2", lrd: "low-rank (LRD)", elastic: "elastic", proximal: "proximal"};

// Switches of an experiment, as fields of a TrainConfig, and their values in words.
const LIVE_SWITCHES = {
  part: {label: "part of the decay", values: {both: "the whole step", radial: "its radial part", tangential: "its tangential part"}},
  select: {
    label: "where it acts",
    values: {"attention+mlp": "all block matrices", qk: "queries, keys", vo: "values, outputs", mlp: "the MLP", "vo+mlp": "all but queries, keys"},
  },
  hold: {label: "norms", values: {none: "free", norm: "held after each step"}},
  attention: {label: "attention", values: {learned: "learned", frozen: "frozen as it is", uniform: "uniform"}},
};
const switchSaid = Object.fromEntries(
  Object.entries(LIVE_SWITCHES).map(([key, {label, values}]) => [key, (news) => `${label}: ${values[news[key]] ?? news[key]}`]),
);

// What a reader may change while it trains, and the values that are not as before, in words.
const LIVE_SAID = {
  rule: ({rule}) => LIVE_RULES[rule] ?? rule,
  weight_decay: ({weight_decay}) => `λ = ${weight_decay}`,
  l2: ({l2}) => `L2 beside it ${l2}`,
  lr: ({lr}) => `learning rate ${lr}`,
  l2_on: ({l2_on}) => (l2_on === "all" ? "L2 on all" : "L2 there only"),
  ...switchSaid,
};
// Changes as the run's file has them, {step, key: value, ...}, in words.
const liveNews = (changes) =>
  changes.map(({step, ...news}) => ({step, words: Object.keys(news).map((key) => LIVE_SAID[key](news)).join(", ")}));

// The records of a run, kept so that panels may draw them. rule: that which acts in it as it begins.
const liveRun = (name, note, rule) => {
  const steps = [];
  const curves = {};
  const spectra = {};
  const fourier = [];
  const patterns = [];
  const tables = [];
  let size = 0;
  const add = (record) => {
    const at = steps.length;
    steps.push(record.step);
    for (const [metric, value] of Object.entries(record.metrics)) (curves[metric] ??= Array(at).fill(null)).push(value);
    for (const [matrix, row] of Object.entries(record.spectra)) (spectra[matrix] ??= []).push(Array.from(row));
    if (record.fourier) fourier.push(Array.from(record.fourier));
    if (record.pattern) {
      size = record.pattern.size;
      patterns.push(Array.from(record.pattern.values));
    }
    if (record.table) tables.push(record.table);
  };
  const copy = (lists) => Object.fromEntries(Object.entries(lists).map(([key, list]) => [key, [...list]]));
  const shown = (changes) => ({
    name,
    note,
    rule,
    steps: [...steps],
    changes,
    curves: copy(curves),
    spectra: copy(spectra),
    fourier: fourier.length ? [...fourier] : null,
    pattern: patterns.length ? {size, steps: [...steps], values: [...patterns]} : null,
    table: tables.length ? {...tables[0], steps: [...steps], hits: tables.map(({hits}) => hits)} : null,
  });
  return {steps, add, shown};
};

// Where the axis of steps ends: a long run begins on a part of it, which doubles whenever it is full.
const liveEnd = (until, last) => {
  let end = until;
  while (end / 2 >= last && end * 64 > until) end /= 2;
  return end;
};
