/* The trainer of this page: a worker that runs lrdlib's train step (worker.js).
 *
 * It has no kernel and no server: after its files have come, it needs no network. While the tab is hidden it rests. Every
 * start and every reset has a number, which the worker repeats: what comes of an earlier one is late, and dropped.
 */

const PAGE_RULES = ["none", "l2", "lrd", "elastic"]; // "proximal" needs an SVD in every step, which ONNX has not

// What this browser can train on. A WebGPU that is only software would be slower than wasm.
const pageEngines = async () => {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const software = adapter?.info?.isFallbackAdapter || adapter?.info?.architecture === "swiftshader";
  return adapter && !software ? ["wasm", "webgpu"] : ["wasm"];
};

// A line to the worker: send(command, values), and ask(command, values) -> Promise. A question has a number, which its answer
// repeats: answers need not come in the order of the questions.
const pageLine = (site, {hear, fail}) => {
  let worker = null;
  let runsOn = "wasm";
  let asked = 0;
  const waiting = new Map(); // {resolve, reject} of a question, by its number
  const close = (why) => {
    worker?.terminate();
    worker = null;
    waiting.forEach(({reject}) => reject(new Told(why)));
    waiting.clear();
  };
  const receive = ({data: {event, to, ...content}}) => {
    if (event === "broken") return close("The engine did not start.");
    if (to === undefined) return hear(event, content);
    const mine = waiting.get(to);
    waiting.delete(to);
    event === "refused" ? mine?.reject(new Told(content.message)) : mine?.resolve(content);
  };
  const open = (wanted) => {
    if (worker && wanted === runsOn) return worker;
    if (worker) close("The engine was changed.");
    runsOn = wanted;
    try {
      worker = new Worker(new URL(`lab/worker.js#${wanted}`, site));
    } catch {
      throw new Told(shutPage() ?? "This browser starts no worker here, and training needs one. Open the page in a tab of its own.");
    }
    worker.onmessage = receive;
    worker.onerror = (error) => {
      error.preventDefault();
      close("The engine was lost.");
      fail(error.message ? `The engine has failed: ${error.message}. Then try again.` : shutPage() ?? "The script worker.js did not come, or something here blocks it (an extension, a firewall). Then try again.");
    };
    return worker;
  };
  const send = (command, values = {}, engine = runsOn) => open(engine).postMessage({do: command, ...values});
  const ask = (command, values) =>
    new Promise((resolve, reject) => {
      waiting.set(++asked, {resolve, reject});
      send(command, {...values, question: asked});
    });
  return {send, ask};
};

const makePageTrainer = async (site) => {
  const folder = new URL("lab/train", site).href;
  const shut = shutPage();
  if (shut) throw new Told(shut);
  const presets = jsonOf(await fetchBytes(`${folder}/presets.json`), `${folder}/presets.json`);
  const engines = await pageEngines();
  const listeners = {};
  let number = 0;
  let state = "idle";
  let rests = false; // paused by the tab, not by the reader

  const emit = (event, content) => (listeners[event] ?? []).forEach((listener) => listener(content));
  const tell = (content) => {
    state = content.state;
    emit("status", content);
  };
  const rest = () => {
    rests = true;
    send("pause");
  };
  const hear = (event, {number: own, ...content}) => {
    if (event === "engine") return emit(event, content);
    if (own !== number) return;
    if (event === "status") tell(rests && content.state === "paused" ? {...content, message: "It rests while this tab is hidden."} : content);
    if (event === "status" && state === "running" && document.hidden && !rests) rest(); // it was hidden while it loaded
    if (event === "record") emit("record", content);
    if (event === "config") emit("config", {...content, fresh: false});
  };
  const line = pageLine(site, {hear, fail: (message) => tell({state: "failed", message})});
  const send = (command, values = {}, engine) => line.send(command, {number, ...values}, engine);
  const ask = (command, values = {}) => line.ask(command, {number, ...values});
  const presetOf = (config) =>
    Object.keys(presets).find((name) => ["task", "p", "bits", "d_model", "layers", "batch_size"].every((key) => presets[name].config[key] === config[key]));

  document.addEventListener("visibilitychange", () => {
    if (document.hidden && state === "running") rest();
    else if (!document.hidden && rests) {
      rests = false;
      send("resume");
    }
  });

  return {
    kind: "page",
    place: "by onnxruntime in a worker: no server, no kernel.",
    presets,
    presetOf,
    engines,
    rules: PAGE_RULES,
    start: (config, wanted = "wasm", plan = []) => {
      rests = false;
      number += 1;
      tell({state: "loading", message: ""});
      emit("begun", {config});
      try {
        send("start", {folder, preset: presetOf(config), config, plan}, wanted);
      } catch (error) {
        tell({state: "failed", message: error.message});
      }
    },
    prepare: () => {
      try {
        send("prepare");
      } catch {} // who starts is told
    },
    set: (values) => send("set", {values}),
    pause: () => {
      rests = false;
      send("pause");
    },
    resume: () => send("resume"),
    step: () => send("step"),
    stop: () => send("stop"),
    reset: () => {
      number += 1;
      rests = false;
      send("reset");
      tell({state: "idle", message: "", ms_per_step: null});
    },
    download: async () => new Blob([(await ask("file")).bytes], {type: "application/zip"}),
    ask: (row) => ask("ask", {row}),
    open: (bytes) => ask("open", {bytes}),
    kept: {
      list: () => ask("kept"),
      show: (id) => ask("show", {id}),
      forget: (id) => ask("forget", {id}),
    },
    on: (event, listener) => (listeners[event] ??= []).push(listener),
  };
};

// The engine, while nothing else is going on, unless the reader saves data.
const prepareIdly = (root, trainer) => {
  if (navigator.connection?.saveData) return;
  const idle = window.requestIdleCallback ?? ((call) => setTimeout(call, 2000));
  const near = new IntersectionObserver(
    (entries) => {
      if (!entries.some(({isIntersecting}) => isIntersecting)) return;
      near.disconnect();
      idle(trainer.prepare);
    },
    {rootMargin: "200px 0px"},
  );
  near.observe(root);
};

// Who comes by "Train one now" finds it training, and who comes by the address of a run sees that run trained again; a link
// to the section's heading starts nothing.
const makeTrain = async (root) => {
  const trainer = await makePageTrainer(new URL("..", HERE));
  let own = null;
  const live = makeLive(root, trainer, (lab) => (own = ownOf(lab)));
  const back = ["reload", "back_forward"].includes(performance.getEntriesByType("navigation")[0]?.type);
  if (location.hash === "#lab-train") {
    live.start();
    if (window.matchMedia("(max-width: 34rem)").matches) root.scrollIntoView(); // past the words, so that two charts are in sight
  } else if (location.hash.startsWith(TRAIN_START) && !back && own.replay(location.hash)) root.scrollIntoView();
  else {
    own.resume().catch(() => {}); // what is not kept is not shown
    prepareIdly(root, trainer);
  }
  window.addEventListener("hashchange", () => own.replay(location.hash) && root.scrollIntoView());
};
