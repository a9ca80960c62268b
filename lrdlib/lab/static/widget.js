/* The lab in a notebook: a trainer over the messages of an anywidget model, and Plotly from the kernel's own package.
 *
 * To the kernel: {do: "start" | "set" | ..., view, ...}. From it: {event, run, to?, ...}, with float32 buffers in a record;
 * what is "to" another view of the same lab is not for this one, and what comes of a run that has been replaced is late.
 */

const WIDGET_PATIENCE = 6000; // milliseconds without an answer until the reader is told
const WIDGET_GONE = "The kernel of this lab is gone: it was restarted or shut down, and its training has ended. Run the cell again.";
const WIDGET_SILENT =
  "The kernel does not answer. It is busy with another cell, or it is gone: then run the cell again.";

const floats = (buffer) => new Float32Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength));

// A record as live.js wants it.
const widgetRecord = ({step, metrics, spectra, fourier, size}, buffers) => ({
  step,
  metrics,
  spectra: Object.fromEntries(spectra.map((name, i) => [name, floats(buffers[i])])),
  fourier: fourier ? floats(buffers[spectra.length]) : null,
  pattern: {size, values: floats(buffers.at(-1))},
});

// A module of its own hides RequireJS, where there is one, from the bundle, which then leaves window.Plotly.
const widgetPlotly = async (packed) => {
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(unpacked).text();
  const url = URL.createObjectURL(new Blob(["const define = undefined, module = undefined, exports = undefined;\n", text], {type: "text/javascript"}));
  await import(url);
  URL.revokeObjectURL(url);
  return window.Plotly;
};

// The two ends of the line to the kernel: ask(command, values), and listeners by event.
const widgetLine = (model) => {
  const view = crypto.randomUUID?.() ?? String(Math.random());
  const listeners = {};
  let timer = null;
  const emit = (event, ...content) => (listeners[event] ?? []).forEach((listener) => listener(...content));
  const on = (event, listener) => (listeners[event] ??= []).push(listener);
  const off = (event, listener) => (listeners[event] = listeners[event].filter((other) => other !== listener));
  const send = (command, values) => {
    try {
      model.send({do: command, view, ...values});
      return true;
    } catch {
      return false; // the connection is closed
    }
  };
  const lost = () => {
    clearTimeout(timer);
    emit("lost");
  };
  const ask = (command, values = {}) => {
    if (!send(command, values)) return lost();
    clearTimeout(timer);
    timer = setTimeout(() => emit("silent"), WIDGET_PATIENCE);
  };
  // The front end has seen the kernel go, or come back: then it answers, and its status is news.
  const turned = () => {
    lost();
    send("hello", {});
  };
  const hear = (message, buffers) => {
    if (message.to !== undefined && message.to !== view) return;
    clearTimeout(timer);
    emit("heard");
    emit(message.event, message, buffers);
  };
  model.on("msg:custom", hear);
  model.on("comm_live_update", turned);
  const close = () => {
    clearTimeout(timer);
    model.off("msg:custom", hear);
    model.off("comm_live_update", turned);
    send("bye", {});
  };
  return {ask, on, off, close};
};

const widgetTrainer = (model, line) => {
  const listeners = {};
  const emit = (event, content) => (listeners[event] ?? []).forEach((listener) => listener(content));
  let status = {state: "idle", message: "", ms_per_step: null};
  let silent = null; // the status before the kernel fell silent
  let run = 0;
  let last = -1; // the step of the last record
  let unanswered = 0; // sliders that the kernel has not confirmed: an older value must not move them back
  const say = (news) => emit("status", (status = {...status, ...news}));

  line.on("config", ({run: number, config}) => {
    const fresh = number !== run;
    if (!fresh) unanswered = Math.max(0, unanswered - 1);
    else [run, last, unanswered] = [number, -1, 0];
    if (unanswered === 0) emit("config", {config, fresh});
  });
  line.on("record", (message, buffers) => {
    if (message.run !== run || message.step <= last) return;
    last = message.step;
    emit("record", widgetRecord(message, buffers));
  });
  line.on("status", ({event: _, to: __, ...news}) => news.run >= run && say(news));
  line.on("refused", ({message}) => {
    unanswered = 0;
    say({message, state: LIVE_ACTIVE.includes(status.state) ? status.state : "failed"});
  });
  line.on("silent", () => {
    if (status.state === "gone") return;
    silent ??= status.message;
    say({message: WIDGET_SILENT});
  });
  line.on("heard", () => {
    if (silent !== null) say({message: silent});
    silent = null;
  });
  line.on("lost", () => say({state: "gone", message: WIDGET_GONE}));

  const file = () =>
    new Promise((resolve, reject) => {
      const got = (_, [bytes]) => done(resolve, new Blob([bytes], {type: "application/octet-stream"}));
      const not = ({message}) => done(reject, new Error(message));
      const done = (settle, value) => {
        line.off("file", got);
        line.off("refused", not);
        settle(value);
      };
      line.on("file", got);
      line.on("refused", not);
      line.ask("download");
    });
  return {
    kind: "kernel",
    place: `by torch, on ${model.get("device")}`,
    presets: model.get("presets"),
    rules: model.get("rules"),
    start: (config) => line.ask("start", {config}),
    set: (values) => {
      unanswered += 1;
      line.ask("set", {values});
    },
    ...Object.fromEntries(["pause", "resume", "step", "stop", "reset"].map((name) => [name, () => line.ask(name)])),
    download: file,
    on: (event, listener) => (listeners[event] ??= []).push(listener),
  };
};

const render = ({model, el}) => {
  // arrow keys move sliders here, not through the notebook: JupyterLab asks for this attribute
  const root = element("div", {className: "lrd-lab lab-widget", "data-lm-suppress-shortcuts": "true"});
  root.addEventListener("keydown", (event) => event.stopPropagation());
  const words = element("p", {role: "status", textContent: "The lab is loading its figures from the kernel."});
  const line = widgetLine(model);
  let live = null;
  root.append(words);
  el.append(root);

  const begin = (Plotly) => {
    live = makeLive(root, widgetTrainer(model, line), Plotly);
    line.ask("hello");
  };
  const fail = (message) => !live && (words.textContent = message);
  line.on("plotly", (_, [packed]) => live || widgetPlotly(packed).then(begin, ({message}) => fail(`The figures cannot be loaded: ${message}. Lab.plain() needs none of it.`)));
  line.on("refused", ({message}) => fail(message));
  line.on("silent", () => fail(WIDGET_SILENT));
  line.on("lost", () => fail(WIDGET_GONE));
  if (window.Plotly?.react) begin(window.Plotly);
  else line.ask("plotly");
  return () => {
    line.close();
    live?.remove();
  };
};
