/* The lab in a notebook: a trainer over the messages of an anywidget model.
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
      const not = ({of, message}) => of === "download" && done(reject, new Error(message));
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
  const line = widgetLine(model);
  el.append(root);
  const live = makeLive(root, widgetTrainer(model, line));
  line.ask("hello");
  return () => {
    line.close();
    live.remove();
  };
};
