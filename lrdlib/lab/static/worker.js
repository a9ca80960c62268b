/* Training in a worker: lrdlib's own train step, exported to ONNX, run by onnxruntime-web.
 *
 * The page sends {do: "start" | "set" | "pause" | "resume" | "step" | "stop" | "file", ...} and gets
 * {event: "record" | "status" | "file", ...}; see page.js. Between any two steps the worker reads its messages, so a
 * slider acts on the next step. Its address says what it runs on: worker.js#wasm or worker.js#webgpu.
 */

const VENDOR = "../vendor/";
const ENGINES = {
  wasm: {file: "ort.wasm.min.js", words: "wasm, one thread", megabytes: 16}, // with a train step
  webgpu: {file: "ort.webgpu.min.js", words: "WebGPU", megabytes: 29},
};
const ENGINE = self.location.hash.slice(1) || "wasm";
const TOLD_EVERY = 1000; // milliseconds between two words on progress
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

const nextTask = () =>
  new Promise((resolve) => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => resolve();
    port2.postMessage(null);
  });

const getJson = async (url) => {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer.json();
};

// One run: its state, and what may be done with it. preset: the JSON that lrdlib/lab/export.py writes.
const makeRun = async (folder, name, config) => {
  const preset = await getJson(`${folder}/${name}.json`);
  const {shapes, table, width} = preset;
  const sessions = {};
  const session = (graph) =>
    (sessions[graph] ??= ort.InferenceSession.create(`${folder}/${name}-${graph}.onnx`, {executionProviders: [ENGINE]}));
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
  const run = {config: {...config}, steps: 0, records: [], changes: []};
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
    const record = {step: run.steps, metrics, spectra, fourier, pattern: {size: width, values: pattern.data}};
    run.records.push({...record, pattern: null});
    return record;
  };

  run.set = (values) => {
    const changed = Object.entries(values).filter(([key, value]) => run.config[key] !== value);
    if (!changed.length) return;
    Object.assign(run.config, Object.fromEntries(changed));
    const news = Object.fromEntries(changed);
    if (run.changes.at(-1)?.step === run.steps) Object.assign(run.changes.at(-1), news); // as Training.set notes them
    else run.changes.push({step: run.steps, ...news});
  };

  run.file = () => {
    const provenance = {
      ...preset.provenance,
      machine: navigator.userAgent,
      forward: `onnxruntime-web ${ort.env.versions.web}, ${ENGINES[ENGINE].words}`,
      command: "trained on a page of the book",
      ...(run.changes.length ? {changes: JSON.stringify(run.changes)} : {}),
    };
    const weights = Object.fromEntries(matrices.map((name) => [name, part(name)]));
    return runFile({config, provenance, records: run.records, weights});
  };
  return run;
};

const work = () => {
  importScripts(`${VENDOR}ort/${ENGINES[ENGINE].file}`, `${VENDOR}ml-matrix/matrix.umd.js`, `${VENDOR}fflate/index.js`);
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error"; // that WebGPU leaves some nodes to the processor is no news for the reader
  ort.env.wasm.wasmPaths = new URL(`${VENDOR}ort/`, self.location).href;
  let run = null;
  let going = 0; // which of the calls of `go` may go on; 0: none
  let calls = 0;

  const say = (event, content) => self.postMessage({event, ...content});
  let state = "idle";
  const status = (now, message = "") => {
    state = now;
    const {steps: step = 0, speed = null, changes = [], config} = run ?? {};
    say("status", {state, message, step, steps: config?.steps ?? 0, ms_per_step: speed, changes});
  };
  const record = async () => {
    const mine = run;
    const made = await mine.measure();
    if (run === mine) say("record", made); // not one of a run that was left meanwhile
  };

  const one = async (mine) => {
    const loss = await mine.update();
    if (!Number.isFinite(loss))
      throw new Error(`The loss is no longer a number at step ${mine.steps}: a smaller strength or learning rate is needed.`);
  };

  const go = async () => {
    const call = (going = ++calls);
    const mine = run;
    let spent = 0;
    let count = 0;
    let told = performance.now();
    status("running");
    while (going === call && mine.steps < mine.config.steps) {
      const before = performance.now();
      await one(mine);
      const after = performance.now();
      spent += after - before;
      count += 1;
      if (mine.steps % mine.config.eval_every === 0 || mine.steps === mine.config.steps) {
        mine.speed = spent / count;
        spent = count = 0;
        await record();
        if (going === call) status("running");
      } else if (after - told > TOLD_EVERY) {
        mine.speed = spent / count;
        told = after;
        status("running");
      }
      await nextTask(); // what the page has said meanwhile
    }
    if (going === call) status("done");
    else if (run === mine && mine.records.at(-1).step < mine.steps) await record(); // it shows where it stands
  };
  let training = Promise.resolve(); // what goes on, or has ended: no two steps at a time

  const acts = {
    start: async ({folder, preset, config}) => {
      going = 0;
      run = null;
      state = "loading";
      say("status", {state, message: `The train step and its engine come once: ${ENGINES[ENGINE].megabytes} MB, or a quarter of it if the site compresses them.`});
      await training.catch(() => {}); // it has said what went wrong
      const fresh = await makeRun(folder, preset, config);
      run = fresh;
      await record();
      await (training = go());
    },
    set: ({values}) => {
      if (!run) return;
      run.set(values);
      status(state);
    },
    pause: () => {
      going = 0;
      status("paused");
    },
    resume: async () => {
      await training;
      await (training = go());
    },
    step: async () => {
      going = 0;
      await training;
      if (run.steps >= run.config.steps) return status("done");
      await one(run);
      await record();
      status("paused");
    },
    stop: () => {
      going = 0;
      status("stopped");
    },
    file: async () => say("file", {bytes: await run.file()}),
  };
  self.onmessage = async ({data}) => {
    try {
      await acts[data.do](data);
    } catch (error) {
      going = 0;
      const advice = ENGINE === "webgpu" && !run?.steps ? " Under “runs on” there is the processor." : "";
      say("status", {state: "failed", message: error.message + advice});
    }
  };
};
