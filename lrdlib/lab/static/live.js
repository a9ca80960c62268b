/* The lab that trains: controls over a trainer, and the panels, fed by its records as they come.
 *
 * makeLive(root, trainer, extend?) -> {remove(), start(plan?), ...}. A trainer is
 *   {kind: "page" | "kernel", place?, presets: {name: {label, config, first, shows?}}, rules: [..], engines?: [..],
 *    start(config, engine, plan), set(values), pause(), resume(), step(), stop?(), reset(), download() -> Promise<Blob | null>,
 *    on(event, fn)}
 * with the events
 *   record {step, metrics, spectra, fourier, pattern, table?}
 *   status {state: "idle" | "loading" | "running" | "paused" | "done" | "stopped" | "failed" | "gone", message, ms_per_step,
 *           step?, steps?, changes?: [{step, key: value, ...}], loaded?, total?}   changes: what was set, after which step
 *   config {config, fresh}     what it trains with by now; fresh: a run has begun
 *   engine {megabytes}         what the first start loads
 * Strength, the rest's L2, learning rate and rule act on the next step; the others are for the next start.
 * extend(lab) -> {left: [nodes], below: [nodes], charts: [names], beside() -> run | null, told(status), opened()}: what a page
 * has more; opened: a run that was trained before is shown, which lab.past() gives.
 */

const LIVE_SOURCES = {page: "Training in this page", kernel: "Training in the kernel"};
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
const LIVE_REDRAW = 150; // milliseconds that the page has for itself between two drawings

const liveSave = async (trainer) => {
  const blob = await trainer.download();
  if (!blob) return;
  const link = element("a", {href: URL.createObjectURL(blob), download: "lrdlib-run.npz"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

// What is left of a run in words: "about 40 s left".
const liveLeft = (seconds) => `about ${seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} minutes`} left`;

// How it stands, in words and in numbers.
const liveTold = () => {
  const words = element("p", {className: "lab-live-status", role: "status"});
  const progress = element("p", {className: "lab-live-progress"});
  const loading = element("progress", {className: "lab-live-loading", "aria-label": "loaded", hidden: true, max: 1, value: 0});
  const tell = ({state, message, step = 0, steps, ms_per_step: speed, loaded, total}) => {
    const wrong = state === "failed" || state === "gone";
    const said = wrong ? message || LIVE_WORDS[state] : [LIVE_WORDS[state], message].filter(Boolean).join(" ");
    if (words.textContent !== said) words.textContent = said; // said once, also to those who listen
    loading.hidden = state !== "loading" || !total;
    if (!loading.hidden) [loading.max, loading.value] = [total, Math.min(loaded, total)];
    const part = loading.hidden ? "" : `${Math.round(loading.value)} of about ${total} MB.`;
    const left = state === "running" ? `, ${liveLeft(((steps - step) * speed) / 1000)}` : "";
    progress.textContent = part || (steps ? `Step ${step} of ${steps}${speed ? `, ${short(speed)} ms per step${left}` : ""}.` : "");
  };
  return {node: element("div", {className: "lab-live-told"}, words, progress, loading), tell};
};

const makeLive = (root, trainer, extend = () => ({})) => {
  let status = {state: "idle", message: "", ms_per_step: null};
  let until = 1;
  let run = null;
  let opened = null; // a run from a file, shown in place of one that trains
  let turn = 0; // of what is shown: a run that was asked for before it is not shown any more
  const place = element("div", {className: "lab-live-panels"});
  const waits = element("p", {className: "lab-waits", textContent: "The charts come here, with the first record."});
  const told = liveTold();
  const changed = element("p", {className: "lab-live-changed"});
  const aside = element("p", {className: "lab-live-aside", role: "status"}); // on what is no part of the run
  const say = (text) => (aside.textContent = text);

  let drawing = false;
  let stale = false;
  const drawn = () => opened ?? (run?.steps.length ? run.shown(changes) : null);
  const draw = async () => {
    if (drawing) return void (stale = true);
    drawing = true;
    do {
      stale = false;
      const mine = drawn();
      const beside = extra.beside?.() ?? null;
      if (mine) await panels.show({runs: beside ? [mine, beside] : [mine], step: scrub.step(), until: liveEnd(until, mine.steps.at(-1))});
      await new Promise((resolve) => setTimeout(resolve, LIVE_REDRAW));
    } while (stale);
    drawing = false;
  };

  const active = () => LIVE_ACTIVE.includes(status.state);
  let changes = [];
  let noted = "[]";
  const tellChanges = () => {
    const list = (opened?.changes ?? changes).map(({step, words}) => `after step ${step}: ${words}`);
    changed.textContent = list.length ? `Changed ${list.join("; ")}.` : "";
  };
  const note = (list) => {
    noted = JSON.stringify(list);
    changes = liveNews(list);
    tellChanges();
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

  const nameOfRun = (config) => `${config.task}, trained on ${percent(config.fraction)}, seed ${config.seed}`;
  const begin = (config) => {
    turn += 1;
    opened = null;
    run = liveRun("this run", nameOfRun(config), actingRule(config));
    note([]);
    until = config.steps;
    status = {...status, step: 0, steps: config.steps};
    scrub.follow(run.steps);
    place.hidden = true;
    tell();
  };
  const start = (plan = []) => {
    const config = controls.config();
    say("");
    begin(config);
    trainer.start(config, controls.engine(), plan);
  };
  const acts = {
    Start: () => start(),
    Pause: () => (status.state === "paused" ? trainer.resume() : trainer.pause()),
    Step: () => trainer.step(),
    ...(trainer.stop ? {Stop: () => trainer.stop()} : {}),
    Reset: () => {
      turn += 1;
      run = opened = null;
      say("");
      note([]);
      controls.restore();
      place.hidden = true;
      scrub.follow([]);
      trainer.reset();
    },
    Download: () => {
      say("");
      liveSave(trainer).catch((error) => say(`No file. ${error.message} The run is as it was.`));
    },
  };
  const buttons = liveButtons(acts);

  const tell = () => {
    told.tell(status);
    waits.hidden = !place.hidden;
    root.dataset.state = status.state;
    controls.lock(active(), status.state === "gone");
    buttons.follow(status.state, run?.steps.length ?? 0, opened !== null);
    extra.told?.(status);
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
  trainer.on("engine", ({megabytes}) => {
    buttons.weigh(megabytes);
    tell();
  });
  trainer.on("record", (record) => {
    if (!run) begin(controls.config());
    run.add(record);
    status.step = Math.max(status.step ?? 0, record.step);
    if (opened) return;
    scrub.follow(run.steps);
    place.hidden = false;
    tell();
    draw();
  });
  root.addEventListener("lrd:step", (event) => scrub.jump(event.detail));

  // A run that was trained before, in place of one of now; asked: a promise of it. What is begun while it comes goes before it.
  const open = async (asked) => {
    const mine = ++turn;
    const past = await asked;
    if (mine !== turn) return;
    if (active()) trainer.stop?.();
    opened = {...past, name: "the opened run", note: nameOfRun(past.config), rule: actingRule(past.config), changes: liveNews(past.changes)};
    until = past.steps.at(-1);
    scrub.follow([]);
    scrub.follow(past.steps);
    place.hidden = false;
    tell();
    tellChanges();
    draw();
    extra.opened?.();
    say(`Opened: ${opened.note}, ${past.config.rule}, ${until} steps.`);
  };

  let extra = {};
  extra = extend({root, trainer, controls, start, open, say, draw, changes: () => JSON.parse(noted), busy: active, past: () => opened});
  const panels = makePanels(place, 3, extra.charts);
  const source = element("p", {className: "lab-source"}, element("strong", {textContent: LIVE_SOURCES[trainer.kind]}));
  if (trainer.place) source.append(` ${trainer.place}`);
  root.classList.add("lab-live", "lab-screen");
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", `Lab: ${LIVE_SOURCES[trainer.kind].toLowerCase()}`);
  place.hidden = true;
  const left = element("div", {className: "lab-left lab-live-controls"}, ...controls.groups, buttons.row, told.node, changed, aside, ...(extra.left ?? []));
  const bar = element("div", {className: "lab-bar"}, controls.strength, scrub.row);
  const stage = element("div", {className: "lab-stage"}, bar, place, waits, ...(extra.below ?? []));
  root.replaceChildren(source, element("div", {className: "lab-body"}, left, stage));
  tell();
  return {remove: () => panels.remove(), start};
};
