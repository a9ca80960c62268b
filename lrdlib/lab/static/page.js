/* The trainer of this page: a worker that runs lrdlib's train step (worker.js), made when the reader first starts it.
 *
 * It has no kernel and no server: after its files have come, it needs no network. While the tab is hidden it rests.
 */

const PAGE_RULES = ["none", "l2", "lrd", "elastic"]; // "proximal" needs an SVD in every step, which ONNX has not

// What this browser can train on. A WebGPU that is only software would be slower than wasm.
const pageEngines = async () => {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const software = adapter?.info?.isFallbackAdapter || adapter?.info?.architecture === "swiftshader";
  return adapter && !software ? ["wasm", "webgpu"] : ["wasm"];
};

const makePageTrainer = async (site) => {
  const folder = new URL("lab/train", site).href;
  const answer = await fetch(`${folder}/presets.json`);
  if (!answer.ok) throw new Error(`the presets cannot be loaded (${answer.status})`);
  const presets = await answer.json();
  const engines = await pageEngines();
  const listeners = {};
  let worker = null;
  let runsOn = null;
  let state = "idle";
  let rests = false; // paused by the tab, not by the reader
  let waiting = [];

  const emit = (event, content) => (listeners[event] ?? []).forEach((listener) => listener(content));
  const tell = (content) => {
    state = content.state;
    emit("status", content);
  };
  const fail = (message) => tell({state: "failed", message});
  const receive = ({data: {event, ...content}}) => {
    if (event === "status") tell(rests && content.state === "paused" ? {...content, message: "It rests while this tab is hidden."} : content);
    if (event === "record") emit("record", content);
    if (event === "file") waiting.splice(0).forEach((resolve) => resolve(new Blob([content.bytes], {type: "application/zip"})));
  };
  const engine = (wanted = runsOn ?? "wasm") => {
    if (worker && wanted === runsOn) return worker;
    worker?.terminate();
    runsOn = wanted;
    worker = new Worker(new URL(`lab/worker.js#${wanted}`, site));
    worker.onmessage = receive;
    worker.onerror = (error) => {
      error.preventDefault();
      fail(`The engine could not be started: ${error.message ?? "its files did not come"}`);
    };
    return worker;
  };
  const send = (command, values = {}) => engine().postMessage({do: command, ...values});
  const presetOf = (config) =>
    Object.keys(presets).find((name) => ["task", "p", "d_model", "layers", "batch_size"].every((key) => presets[name].config[key] === config[key]));

  document.addEventListener("visibilitychange", () => {
    if (document.hidden && state === "running") {
      rests = true;
      send("pause");
    } else if (!document.hidden && rests) {
      rests = false;
      send("resume");
    }
  });

  return {
    kind: "page",
    place: "by onnxruntime in a worker: no server, no kernel.",
    presets,
    engines,
    rules: PAGE_RULES,
    start: (config, wanted = "wasm") => {
      rests = false;
      tell({state: "loading", message: ""});
      engine(wanted);
      send("start", {folder, preset: presetOf(config), config});
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
      worker?.terminate();
      worker = null;
      rests = false;
      tell({state: "idle", message: "", ms_per_step: null});
    },
    download: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        send("file");
      }),
    on: (event, listener) => (listeners[event] ??= []).push(listener),
  };
};

// Who comes by "Train one now" finds it training; a link to the section's heading starts nothing.
const makeTrain = async (root) => {
  const live = makeLive(root, await makePageTrainer(new URL("..", HERE)));
  if (location.hash === "#lab-train") live.start();
};
