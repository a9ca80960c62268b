/* One run in the worker: the exported step of lrdlib, its state, what is measured of it, and its file.
 *
 * The random numbers are random.js's, the measures measure.js's, the file npz.js's. ort is onnxruntime-web's.
 */

const LOW_RANK = ["lrd", "elastic"]; // rules with a low-rank decay (lrdlib.training.config.LOW_RANK)

// The numbers of the exported step, as lrdlib.lab.step.numbers reads them off a TrainConfig.
const numbers = ({lr, rule, weight_decay, l2, l2_on, select, part, hold, attention}) => {
  const everywhere = rule === "l2" && l2_on === "all";
  const places = select.replace("attention", "qk+vo").split("+");
  const aimed = (place) => Number(everywhere || places.includes(place));
  return {
    lr,
    l2: rule === "l2" ? (everywhere ? weight_decay : 0) : l2,
    l2_blocks: rule === "l2" ? weight_decay : rule === "elastic" ? l2 : 0,
    low: LOW_RANK.includes(rule) ? weight_decay : 0,
    qk: aimed("qk"),
    vo: aimed("vo"),
    mlp: aimed("mlp"),
    radial: Number(part !== "tangential"),
    tangential: Number(part !== "radial"),
    held: Number(hold === "norm"),
    trained: Number(attention !== "frozen"),
    temper: Number(attention !== "uniform"),
  };
};

const scalar = (value) => new ort.Tensor("float32", [value], []);

const integers = (values, shape) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);

// How the rows of a task's table lie: pairs (a, b) by a and b, bits by the first half and the rest.
const tableOf = ({task}, rows) => {
  const down = task === "parity" ? 2 ** Math.ceil(Math.log2(rows) / 2) : Math.ceil(Math.sqrt(rows)); // division has no b = 0
  return {down, across: rows / down};
};

// One run: its state, and what may be done with it. preset: the JSON that lrdlib/lab/export.py writes; graphs: {name: bytes};
// plan: changes [{step, key: value, ...}] that are made by themselves.
const makeRun = (preset, graphs, config, plan = []) => {
  const {shapes, table, width} = preset;
  const sessions = {};
  const session = (graph) => (sessions[graph] ??= ort.InferenceSession.create(graphs[graph], {executionProviders: [ENGINE]}));
  const split = splitOf(table, config.fraction, config.seed);
  const draw = batches(split.train, config.seed, config.batch_size);
  const places = {};
  shapes.reduce((start, {name, size, shape}) => ((places[name] = {start, size, shape}), start + size), 0);
  const matrices = Object.keys(places).filter((name) => /\.(query|key)$/.test(name));
  const initial = initialWeights(shapes, config.seed);
  const vector = (values) => new ort.Tensor("float32", values, [initial.length]);
  const state = {
    weights: vector(initial),
    exp_avg: vector(new Float32Array(initial.length)),
    exp_avg_sq: vector(new Float32Array(initial.length)),
  };
  const run = {config: {...config}, begun: Date.now(), steps: 0, records: [], changes: [], plan};
  const trained = new Uint8Array(table.labels.length);
  for (const index of split.train) trained[index] = 1;
  const row = table.tokens.length / table.labels.length;
  const all = {tokens: integers(table.tokens, [table.labels.length, row]), labels: integers(table.labels, [table.labels.length])};
  const part = (name) => {
    const {start, size, shape} = places[name];
    return {shape, values: state.weights.data.subarray(start, start + size)};
  };

  run.update = async () => {
    const rows = draw(run.steps);
    const tokens = integers(Array.from(rows).flatMap((r) => table.tokens.slice(r * row, r * row + row)), [rows.length, row]);
    const labels = integers(Array.from(rows, (r) => table.labels[r]), [rows.length]);
    const inputs = {steps: run.steps, ...numbers(run.config)};
    const step = await session(inputs.low ? "low" : "plain");
    const feeds = {...state, tokens, labels};
    for (const [name, value] of Object.entries(inputs)) if (step.inputNames.includes(name)) feeds[name] = scalar(value);
    const made = await step.run(feeds);
    for (const name of Object.keys(state)) state[name] = made[`new_${name}`];
    run.steps += 1;
    return made.loss.data[0];
  };

  run.measure = async () => {
    const {losses, hits, pattern} = await (await session("evaluation")).run({weights: state.weights, ...all});
    const metrics = {weight_norm: norm(state.weights.data)};
    for (const [name, rows] of Object.entries(split)) {
      metrics[`${name}_loss`] = meanOf(rows, losses.data);
      metrics[`${name}_accuracy`] = meanOf(rows, hits.data);
    }
    const spectra = Object.fromEntries(
      matrices.map((name) => [name, singularValues(part(name).values, ...part(name).shape)]),
    );
    const mean = (rank) => matrices.reduce((sum, name) => sum + rank(spectra[name]), 0) / matrices.length;
    metrics.qk_stable_rank = mean(stableRank);
    metrics.qk_effective_rank = mean(effectiveRank);
    const {p} = run.config;
    const fourier = preset.modular ? fourierPower(part("embedding").values, p, width) : null;
    const record = {step: run.steps, metrics, spectra, fourier};
    run.records.push(record);
    const shown = {...tableOf(config, trained.length), trained, hits: Uint8Array.from(hits.data)};
    return {...record, pattern: {size: width, values: pattern.data}, table: shown};
  };

  // The probability of each answer to one row of the table: its loss at each label in turn. The evaluation takes as many
  // rows as the table has, and a table has no fewer rows than answers.
  run.ask = async (asked) => {
    const tokens = table.tokens.slice(asked * row, asked * row + row);
    const count = Math.max(...table.labels) + 1;
    const many = {
      tokens: integers(table.labels.flatMap(() => tokens), [table.labels.length, row]),
      labels: integers(table.labels.map((_, i) => i % count), [table.labels.length]),
    };
    const {losses} = await (await session("evaluation")).run({weights: state.weights, ...many});
    const probabilities = Array.from(losses.data.subarray(0, count), (loss) => Math.exp(-loss));
    return {tokens, probabilities, label: table.labels[asked], trained: trained[asked] === 1, step: run.steps};
  };

  // The changes of the plan that are due now; whether there were any.
  run.follow = () => {
    const due = run.plan.filter(({step}) => step === run.steps);
    for (const {step: _, ...values} of due) run.set(values);
    return due.length > 0;
  };

  run.set = (values) => {
    const changed = Object.entries(values).filter(([key, value]) => run.config[key] !== value);
    if (!changed.length) return;
    Object.assign(run.config, Object.fromEntries(changed));
    const news = Object.fromEntries(changed);
    if (run.changes.at(-1)?.step === run.steps) Object.assign(run.changes.at(-1), news); // as Training.set notes them
    else run.changes.push({step: run.steps, ...news});
  };

  run.file = (level) => {
    const provenance = {
      ...preset.provenance,
      machine: navigator.userAgent,
      forward: `onnxruntime-web ${ort.env.versions.web}, ${ENGINES[ENGINE].words}`,
      command: "trained on a page of the book",
      ...(run.changes.length ? {changes: JSON.stringify(run.changes)} : {}),
    };
    const weights = Object.fromEntries(matrices.map((name) => [name, part(name)]));
    return runFile({config, provenance, records: run.records, weights}, level);
  };
  return run;
};
