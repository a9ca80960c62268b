/* The trainer of this page: a worker that runs lrdlib's train step (worker.js), made when the reader first starts it.
 *
 * It has no kernel and no server: after its files have come, it needs no network. While the tab is hidden it rests.
 */

const PAGE_RULES = ["none", "l2", "lrd", "elastic"]; // "proximal" needs an SVD in every step, which ONNX has not

const makePageTrainer = async (site) => {
  const folder = new URL("lab/train", site).href;
  const answer = await fetch(`${folder}/presets.json`);
  if (!answer.ok) throw new Error(`the presets cannot be loaded (${answer.status})`);
  const presets = await answer.json();
  const listeners = {};
  let worker = null;
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
  const engine = () => {
    if (worker) return worker;
    worker = new Worker(new URL("lab/worker.js", site));
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
    place: "by onnxruntime in a worker, on one thread: no server, no kernel.",
    presets,
    rules: PAGE_RULES,
    start: (config) => {
      rests = false;
      tell({state: "loading", message: ""});
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

const makeTrain = async (root) => makeLive(root, await makePageTrainer(new URL("..", HERE)));
