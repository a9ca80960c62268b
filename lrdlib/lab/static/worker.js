/* Training in a worker: lrdlib's own train step, exported to ONNX, run by onnxruntime-web.
 *
 * The page sends {do: "start" | "set" | "pause" | "resume" | "step" | "stop" | "reset" | "prepare" | "ask" | "file" | "open" |
 * "kept" | "show" | "forget", ...} and gets {event: "engine" | "record" | "status" | "config" | "answer" | "refused", ...};
 * the last two are to a question, whose number is `question` there and `to` here. See page.js. Between any two steps the worker reads its messages, so a slider acts on the next
 * step. Its address says what it runs on: worker.js#wasm or worker.js#webgpu.
 */

const VENDOR = "../vendor/";
const ENGINES = {
  wasm: {file: "ort.wasm.min.js", words: "wasm, one thread", megabytes: 15, binary: "ort-wasm-simd-threaded"}, // with a train step
  webgpu: {file: "ort.webgpu.min.js", words: "WebGPU", megabytes: 27, binary: "ort-wasm-simd-threaded.asyncify"},
};
const ENGINE = self.location.hash.slice(1) || "wasm";
const GRAPHS = ["evaluation", "low", "plain"]; // all at once: a rule chosen later finds its own there
const LOADS = "The train step and its engine come once.";
const TOLD_EVERY = 1000; // milliseconds between two words on progress
const KEPT_EVERY = 4000; // milliseconds between two times that the run so far is kept

const nextTask = () =>
  new Promise((resolve) => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => resolve();
    port2.postMessage(null);
  });

// A script of the site, once; a Told where it does not come.
const scripts = new Set();
const takeScript = (path) => {
  if (scripts.has(path)) return;
  try {
    importScripts(VENDOR + path);
  } catch {
    const wanted = path.split("/").at(-1);
    throw new Told(`The script ${wanted} did not come, or something here blocks it (an extension, a firewall). Then try again.`);
  }
  scripts.add(path);
};
const takeZip = () => takeScript("fflate/index.js");
const takeEngine = () => {
  takeScript(`ort/${ENGINES[ENGINE].file}`);
  takeScript("ml-matrix/matrix.umd.js");
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error"; // that WebGPU leaves some nodes to the processor is no news for the reader
  ort.env.wasm.wasmPaths = new URL(`${VENDOR}ort/`, self.location).href;
};

// Files that come once and stay: get(url) is a promise of bytes, arrived() how many megabytes have come in all.
const makeFiles = (told) => {
  const kept = new Map();
  let arrived = 0;
  const came = (count) => {
    arrived += count;
    told();
  };
  const get = (url) => {
    if (!kept.has(url)) {
      const bytes = fetchWhole(url, {told: came});
      bytes.catch(() => kept.delete(url)); // so that it can be tried again
      kept.set(url, bytes);
    }
    return kept.get(url);
  };
  return {get, arrived: () => arrived / 1e6};
};

const work = () => {
  const engine = ["wasm", "mjs"].map((kind) => new URL(`${VENDOR}ort/${ENGINES[ENGINE].binary}.${kind}`, self.location).href);
  let run = null;
  let number = 0; // of the run, as the page counts them
  let turn = 0; // of the last start, stop or reset: what began before it is forgotten
  let going = 0; // which of the calls of `go` may go on; 0: none
  let calls = 0;
  let saved = 0;

  const say = (event, content) => self.postMessage({event, number, ...content});
  let state = "idle";
  const status = (now, message = "") => {
    state = now;
    const {steps: step = 0, speed = null, changes = [], config} = run ?? {};
    say("status", {state, message, step, steps: config?.steps ?? 0, ms_per_step: speed, changes});
  };
  let last = Promise.resolve(); // one thing at a time is done with a run's graphs
  const inTurn = (act) => (last = last.catch(() => {}).then(act));

  // The run so far, in this browser. What cannot be kept is no fault of the run.
  const keep = async (mine) => {
    saved = performance.now();
    try {
      takeZip();
      const name = `${mine.config.task}, ${mine.config.rule}, seed ${mine.config.seed}, ${mine.steps} steps`;
      await keepRun({id: mine.begun, name, preset: mine.preset, bytes: mine.file(0)});
    } catch {}
  };
  const record = async () => {
    const mine = run;
    const made = await inTurn(mine.measure);
    if (run !== mine) return; // not one of a run that was left meanwhile
    say("record", made);
    if (performance.now() - saved > KEPT_EVERY) await keep(mine);
  };

  const one = async (mine) => {
    if (mine.follow()) say("config", {config: mine.config});
    const loss = await inTurn(mine.update);
    if (!Number.isFinite(loss))
      throw new Told(`The loss is no longer a number at step ${mine.steps}: a smaller strength or learning rate is needed.`);
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
    if (going === call) {
      await keep(mine);
      if (going === call) status("done");
    } else if (run === mine && mine.records.at(-1).step < mine.steps) await record(); // it shows where it stands
    if (run === mine && state === "stopped") await keep(mine);
  };
  let training = Promise.resolve(); // what goes on, or has ended: no two steps at a time
  let words = 0; // of pause, resume and step: the last of them holds
  const stands = () => state === "running" || state === "paused";
  // After what goes on; nothing where the run was left meanwhile, in which nothing can fail any more.
  const after = (act) => {
    const [mine, before] = [turn, training];
    const next = async () => {
      try {
        await before;
        if (mine === turn) await act();
      } catch (error) {
        if (mine === turn) throw error;
      }
    };
    return (training = next());
  };
  const step = async () => {
    const mine = run;
    if (mine.steps >= mine.config.steps) return status("done");
    await one(mine);
    if (run === mine) await record();
    if (run !== mine) return;
    state === "stopped" ? await keep(mine) : status("paused");
  };

  let told = 0;
  const progress = () => {
    if (state !== "loading" || performance.now() - told < 100) return;
    told = performance.now();
    say("status", {state, message: LOADS, loaded: files.arrived(), total: ENGINES[ENGINE].megabytes});
  };
  const files = makeFiles(progress);
  // The files of a preset and of the engine.
  const take = async (folder, preset) => {
    const graphs = GRAPHS.map(async (graph) => [graph, await files.get(`${folder}/${preset}-${graph}.onnx`)]);
    const [description, binary, , ...pairs] = await Promise.all([files.get(`${folder}/${preset}.json`), ...engine.map(files.get), ...graphs]);
    return {description: jsonOf(description, `${folder}/${preset}.json`), binary, graphs: Object.fromEntries(pairs)};
  };

  const forget = (now) => {
    state = now;
    turn += 1;
    going = 0;
    run = now === "stopped" ? run : null;
  };

  const acts = {
    prepare: () => Promise.all(engine.map(files.get)).catch(() => {}), // who starts is told what is wrong
    start: async ({folder, preset, config, plan = []}) => {
      forget("loading");
      const mine = turn;
      progress();
      try {
        await training.catch(() => {}); // it has said what went wrong
        const {description, binary, graphs} = await take(folder, preset);
        if (mine !== turn) return;
        takeEngine();
        ort.env.wasm.wasmBinary = binary;
        run = Object.assign(makeRun(description, graphs, config, plan), {preset});
        await record();
        if (mine === turn) await (training = go());
      } catch (error) {
        if (mine === turn) throw error;
      }
    },
    set: ({values}) => {
      if (!run || state === "loading") return; // the page says it again when it trains
      run.plan = []; // the hand goes its own way
      run.set(values);
      status(state);
    },
    pause: () => {
      if (!stands()) return; // it was left meanwhile
      words += 1;
      going = 0;
      status("paused");
    },
    resume: () => {
      if (state !== "paused") return null;
      const mine = ++words;
      return after(() => mine === words && go());
    },
    step: () => {
      if (!stands()) return null;
      words += 1;
      going = 0;
      return after(step);
    },
    stop: () => {
      forget("stopped");
      status("stopped");
    },
    reset: () => forget("idle"),
  };
  // Questions: what each gives is the answer. One can fail without any harm to the run: it is refused, and nothing else.
  const asides = {
    file: () => {
      takeZip();
      return {bytes: run.file()};
    },
    ask: ({row}) => {
      const mine = run;
      return inTurn(() => mine.ask(row));
    },
    open: ({bytes: file}) => {
      takeZip();
      return openRun(file);
    },
    kept: async () => {
      if (!stands()) await training.catch(() => {}); // a run that has just stopped is being kept
      return {runs: (await keptRuns().catch(() => [])).map(({id, name}) => ({id, name}))};
    },
    show: async ({id}) => {
      takeZip();
      const {bytes: file} = (await keptRuns()).find((one) => one.id === id) ?? {};
      if (!file) throw new Told("This run is no longer kept.");
      return openRun(file);
    },
    forget: async ({id}) => {
      await forgetRun(id);
      return asides.kept();
    },
  };
  const answer = async (aside, data) => {
    try {
      say("answer", {...(await aside(data)), to: data.question});
    } catch (error) {
      say("refused", {message: error.message, to: data.question});
    }
  };
  const fail = (error) => {
    const began = run !== null && run.records.length > 0;
    const said = error instanceof Told ? error.message
      : began ? `The engine says: ${error.message}`
      : `The engine could not be started (${error.message}). Reload the page; if that does not help, take another browser.`;
    const advice = ENGINE === "webgpu" && !run?.steps ? " Under “runs on” there is the processor." : "";
    going = 0;
    status("failed", said + advice);
    if (!began) say("broken", {}); // an engine that did not start does not start again: a new worker is needed
  };
  self.onmessage = async ({data}) => {
    number = data.number;
    const mine = number;
    if (asides[data.do]) return answer(asides[data.do], data);
    try {
      await acts[data.do](data);
    } catch (error) {
      if (mine === number) fail(error);
    }
  };
  say("engine", {engine: ENGINE, megabytes: ENGINES[ENGINE].megabytes});
};
