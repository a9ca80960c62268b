/* The lab that trains: controls over a trainer, and the panels, fed by its records as they come.
 *
 * makeLive(root, trainer) -> {remove(), start()}. A trainer is
 *   {kind: "page" | "kernel", place?, presets: {name: {label, config, first}}, rules: [..], engines?: [..], start(config, engine), set(values), pause(),
 *    resume(), step(), stop?(), reset(), download() -> Promise<Blob | null>, on(event, fn)}
 * with the events
 *   record {step, metrics, spectra, fourier, pattern}
 *   status {state: "idle" | "loading" | "running" | "paused" | "done" | "stopped" | "failed" | "gone", message, ms_per_step,
 *           step?, steps?, changes?: [{step, key: value, ...}]}   changes: what was set, after which step
 *   config {config, fresh}     what it trains with by now; fresh: a run has begun
 * Strength, the rest's L2, learning rate and rule act on the next step; the others are for the next start.
 */

const LIVE_SOURCES = {page: "Training in this page", kernel: "Training in the kernel"};
const LIVE_RULES = {none: "no decay", l2: "L2", lrd: "low-rank (LRD)", elastic: "elastic", proximal: "proximal"};
const LIVE_ENGINES = {wasm: "the processor", webgpu: "the graphics card (WebGPU)"};
const LIVE_WORDS = {
  idle: "Ready: press Start.",
  loading: "Loading.",
  running: "Training.",
  paused: "Paused.",
  done: "Done: every step is trained.",
  stopped: "Stopped. Start begins anew.",
  failed: "It did not work.",
  gone: "This lab has lost its kernel.",
};
const LIVE_ACTIVE = ["loading", "running", "paused"];
const LIVE_REDRAW = 150; // milliseconds that the page has for itself between two drawings

const liveStops = (first, last) => {
  const stops = [];
  for (let e = first; e < last; e += 1) for (const m of [1, 1.5, 2, 3, 5, 7]) stops.push(Number(`${m}e${e}`));
  return [...stops, Number(`1e${last}`)];
};

// A labelled slider over a list of numbers, which takes up a value that is not in it.
const liveSlider = (name, stops, moved, words = String) => {
  let values = stops;
  const input = element("input", {type: "range", min: 0, max: values.length - 1, step: 1});
  const output = valueBeside();
  const tell = () => {
    output.textContent = words(values[input.value]);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => (tell(), moved()));
  const field = element("label", {className: "lab-stops"}, element("span", {textContent: name}), input, output);
  const show = (value) => {
    if (!values.includes(value)) values = [...values, value].sort((a, b) => a - b);
    input.max = values.length - 1;
    input.value = values.indexOf(value);
    tell();
  };
  return {field, input, show, value: () => values[input.value]};
};

// ask() calls at most every `gap` milliseconds, and always once more after the last time; waits() while that is to come.
const liveThrottle = (call, gap) => {
  let timer = null;
  let again = false;
  const ask = () => {
    if (timer !== null) return void (again = true);
    again = false;
    call();
    timer = setTimeout(() => {
      timer = null;
      if (again) ask();
    }, gap);
  };
  return {ask, waits: () => again};
};

// What a reader may change while it trains, and the values that are not as before, in words.
const LIVE_SAID = {
  rule: ({rule}) => LIVE_RULES[rule] ?? rule,
  weight_decay: ({weight_decay}) => `λ = ${weight_decay}`,
  l2: ({l2}) => `L2 beside it ${l2}`,
  lr: ({lr}) => `learning rate ${lr}`,
};
// Changes as the run's file has them, {step, key: value, ...}, in words.
const liveNews = (changes) =>
  changes.map(({step, ...news}) => ({step, words: Object.keys(news).map((key) => LIVE_SAID[key](news)).join(", ")}));

// The records of a run, kept so that panels may draw them.
const liveRun = (name, note) => {
  const steps = [];
  const curves = {};
  const spectra = {};
  const fourier = [];
  const patterns = [];
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
  };
  const copy = (lists) => Object.fromEntries(Object.entries(lists).map(([key, list]) => [key, [...list]]));
  const shown = (changes) => ({
    name,
    note,
    steps: [...steps],
    changes,
    curves: copy(curves),
    spectra: copy(spectra),
    fourier: fourier.length ? [...fourier] : null,
    pattern: patterns.length ? {size, steps: [...steps], values: [...patterns]} : null,
  });
  return {steps, add, shown};
};

// Where the axis of steps ends: a long run begins on a part of it, which doubles whenever it is full.
const liveEnd = (until, last) => {
  let end = until;
  while (end / 2 >= last && end * 64 > until) end /= 2;
  return end;
};

const liveControls = (trainer, {moved, chosen}) => {
  const strengths = {}; // of each rule, as it was last chosen
  const preset = element("select", {onchange: () => chosen()});
  fill(preset, Object.entries(trainer.presets).map(([value, {label}]) => ({value, text: label})), Object.keys(trainer.presets)[0]);
  const fractions = Array.from({length: 17}, (_, i) => (i + 2) / 20);
  const fraction = liveSlider("fraction", fractions, () => {}, (value) => `${percent(value)} of the pairs`);
  const seed = element("input", {type: "number", min: 0, max: 4294967295, step: 1, value: 0, inputMode: "numeric"});
  seed.addEventListener("change", () => (seed.value = Math.min(Math.max(Math.trunc(Number(seed.value)) || 0, seed.min), seed.max)));
  const rule = element("select");
  fill(rule, trainer.rules.map((value) => ({value, text: LIVE_RULES[value] ?? value})), trainer.rules[0]);
  const strength = liveSlider("strength λ", [0, ...liveStops(-4, 2)], () => {
    strengths[rule.value] = strength.value();
    moved();
  });
  const rest = liveSlider("L2 beside it", [0, ...liveStops(-2, 1)], moved);
  const lr = liveSlider("learning rate", liveStops(-4, -1), moved);

  // What the rule does not have, no slider offers.
  const fit = () => {
    strength.input.disabled = rule.value === "none";
    rest.input.disabled = ["none", "l2"].includes(rule.value);
  };
  rule.addEventListener("change", () => {
    strength.show(strengths[rule.value]);
    fit();
    moved();
  });

  const show = (config) => {
    rule.value = config.rule;
    strengths[config.rule] = config.weight_decay;
    strength.show(config.weight_decay);
    rest.show(config.l2 ?? 0);
    lr.show(config.lr);
    fraction.show(config.fraction);
    seed.value = config.seed;
    fit();
  };
  // The preset as it is, without what has been moved since.
  const restore = () => {
    const {config: fields, first} = trainer.presets[preset.value];
    Object.assign(strengths, first);
    show(fields);
  };
  const live = () => ({
    rule: rule.value,
    weight_decay: strength.value(),
    l2: rest.input.disabled ? 0 : rest.value(),
    lr: lr.value(),
  });
  const config = () => ({
    ...trainer.presets[preset.value].config,
    ...live(),
    fraction: fraction.value(),
    seed: Number(seed.value),
  });

  const before = element("fieldset", {className: "lab-live-group"}, element("legend", {textContent: "Before it starts"}));
  before.append(labelled("preset", preset), fraction.field, labelled("seed", seed));
  const engines = trainer.engines ?? [];
  const engine = element("select");
  fill(engine, engines.map((value) => ({value, text: LIVE_ENGINES[value] ?? value})), engines[0]);
  if (engines.length > 1) before.append(labelled("runs on", engine)); // a choice of one is none
  const during = element("fieldset", {className: "lab-live-group"}, element("legend", {textContent: "Also while it trains"}));
  during.append(labelled("rule", rule), strength.field, rest.field, lr.field);
  const lock = (active, gone) => {
    before.disabled = active || gone;
    during.disabled = gone;
  };
  restore();
  const engineOf = () => engine.value || undefined;
  return {groups: [before, during], show, restore, live, config, engine: engineOf, lock};
};

// A button that may not act now says so and does nothing. It is not disabled: that would take the focus of a keyboard away.
const liveButtons = (acts) => {
  const makeButton = (name, act) => {
    const button = element("button", {type: "button", textContent: name});
    button.addEventListener("click", () => button.getAttribute("aria-disabled") === "true" || act());
    return button;
  };
  const buttons = Object.fromEntries(Object.entries(acts).map(([name, act]) => [name, makeButton(name, act)]));
  const follow = (state, records) => {
    const active = LIVE_ACTIVE.includes(state);
    const paused = state === "paused";
    const allow = {
      Start: !active && state !== "gone",
      Pause: state === "running" || paused,
      Step: state === "running" || paused,
      Stop: active,
      Reset: state !== "gone" && (active || records > 0 || state === "failed"),
      Download: state !== "gone" && records > 0,
    };
    for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-disabled", String(!allow[name]));
    buttons.Start.textContent = records && !active ? "Start again" : "Start";
    buttons.Pause.textContent = paused ? "Resume" : "Pause";
  };
  return {row: element("div", {className: "lab-live-buttons"}, ...Object.values(buttons)), follow};
};

const liveSave = async (trainer) => {
  const blob = await trainer.download();
  if (!blob) return;
  const link = element("a", {href: URL.createObjectURL(blob), download: "lrdlib-run.npz"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

// What is left of a run in words: "about 40 s left".
const liveLeft = (seconds) => `about ${seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} minutes`} left`;

// Which step is shown: the last one, as they come, until the reader takes another.
const liveScrub = (moved) => {
  let steps = [];
  let following = true;
  const input = element("input", {type: "range", min: 0, max: 0, step: 1, value: 0, disabled: true});
  const output = valueBeside();
  const field = element("label", {className: "lab-stops"}, element("span", {textContent: "shown step"}), input, output);
  const latest = element("button", {type: "button", textContent: "latest"});
  const tell = () => {
    output.textContent = steps.length ? String(steps[input.value]) : "none yet";
    input.setAttribute("aria-valuetext", steps.length ? `step ${steps[input.value]}` : "no record yet");
    latest.setAttribute("aria-disabled", String(following));
  };
  const take = (place) => {
    input.value = place;
    following = Number(input.value) === steps.length - 1;
    tell();
    moved();
  };
  input.addEventListener("input", () => take(input.value));
  latest.addEventListener("click", () => following || take(steps.length - 1));
  const follow = (list) => {
    if (list.length < steps.length) following = true;
    steps = list;
    input.disabled = steps.length < 2;
    input.max = Math.max(0, steps.length - 1);
    if (following) input.value = input.max;
    tell();
  };
  tell();
  const row = element("div", {className: "lab-live-scrub"}, field, latest);
  return {row, follow, jump: (step) => take(recordAt(steps, step)), step: () => steps[input.value] ?? 0};
};

const makeLive = (root, trainer) => {
  let status = {state: "idle", message: "", ms_per_step: null};
  let until = 1;
  let run = null;
  const place = element("div", {className: "lab-live-panels"});
  const panels = makePanels(place);
  const words = element("p", {className: "lab-live-status", role: "status"});
  const progress = element("p", {className: "lab-live-progress"});
  const changed = element("p", {className: "lab-live-changed"});

  let drawing = false;
  let stale = false;
  const draw = async () => {
    if (drawing) return void (stale = true);
    drawing = true;
    do {
      stale = false;
      if (run?.steps.length) await panels.show({runs: [run.shown(changes)], step: scrub.step(), until: liveEnd(until, run.steps.at(-1))});
      await new Promise((resolve) => setTimeout(resolve, LIVE_REDRAW));
    } while (stale);
    drawing = false;
  };

  const active = () => LIVE_ACTIVE.includes(status.state);
  let changes = [];
  let noted = "[]";
  const note = (list) => {
    noted = JSON.stringify(list);
    changes = liveNews(list);
    changed.textContent = changes.length ? `Changed ${changes.map(({step, words}) => `after step ${step}: ${words}`).join("; ")}.` : "";
    draw();
  };
  let late = false; // moved while it loads, when there is no run yet to take it up
  const send = liveThrottle(() => {
    if (!active()) return;
    late = status.state === "loading";
    trainer.set(controls.live());
  }, 60);
  const controls = liveControls(trainer, {moved: send.ask, chosen: () => controls.restore()});
  const scrub = liveScrub(() => panels.at(scrub.step()));

  const begin = (config) => {
    run = liveRun("this run", `${config.task}, trained on ${percent(config.fraction)}, seed ${config.seed}`);
    note([]);
    until = config.steps;
    status = {...status, step: 0, steps: config.steps};
    scrub.follow(run.steps);
    place.hidden = true;
    tell();
  };
  const acts = {
    Start: () => {
      const config = controls.config();
      begin(config);
      trainer.start(config, controls.engine());
    },
    Pause: () => (status.state === "paused" ? trainer.resume() : trainer.pause()),
    Step: () => trainer.step(),
    ...(trainer.stop ? {Stop: () => trainer.stop()} : {}),
    Reset: () => {
      run = null;
      note([]);
      controls.restore();
      place.hidden = true;
      scrub.follow([]);
      trainer.reset();
    },
    Download: () => liveSave(trainer).catch((error) => (words.textContent = `No file: ${error.message}`)),
  };
  const buttons = liveButtons(acts);

  const tell = () => {
    const said = status.state === "failed" || status.state === "gone" ? status.message || LIVE_WORDS[status.state]
      : [LIVE_WORDS[status.state], status.message].filter(Boolean).join(" ");
    if (words.textContent !== said) words.textContent = said; // said once, also to those who listen
    const left = status.state === "running" ? `, ${liveLeft(((status.steps - (status.step ?? 0)) * status.ms_per_step) / 1000)}` : "";
    const speed = status.ms_per_step ? `, ${short(status.ms_per_step)} ms per step${left}` : "";
    progress.textContent = status.steps ? `Step ${status.step ?? 0} of ${status.steps}${speed}.` : "";
    root.dataset.state = status.state;
    controls.lock(active(), status.state === "gone");
    buttons.follow(status.state, run?.steps.length ?? 0);
  };

  trainer.on("status", (news) => {
    status = {...status, ...news};
    if (status.state === "idle") status.steps = 0;
    if (news.changes && JSON.stringify(news.changes) !== noted) note(news.changes);
    tell();
    if (late && status.state === "running") send.ask();
  });
  trainer.on("config", ({config, fresh}) => {
    if (fresh || !send.waits()) controls.show(config); // what the hand has moved since is newer
    if (fresh) begin(config);
  });
  trainer.on("record", (record) => {
    if (!run) begin(controls.config());
    run.add(record);
    status.step = Math.max(status.step ?? 0, record.step);
    scrub.follow(run.steps);
    place.hidden = false;
    tell();
    draw();
  });
  root.addEventListener("lrd:step", (event) => scrub.jump(event.detail));

  const source = element("p", {className: "lab-source"}, element("strong", {textContent: LIVE_SOURCES[trainer.kind]}));
  if (trainer.place) source.append(` ${trainer.place}`);
  root.classList.add("lab-live");
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", `Lab: ${LIVE_SOURCES[trainer.kind].toLowerCase()}`);
  place.hidden = true;
  root.replaceChildren(
    source,
    element("div", {className: "lab-live-controls"}, ...controls.groups),
    buttons.row,
    element("div", {className: "lab-live-told"}, words, progress),
    changed,
    scrub.row,
    place,
  );
  tell();
  return {remove: () => panels.remove?.(), start: acts.Start};
};
