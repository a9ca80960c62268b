/* The controls of a lab that trains: what it starts with, what may be changed meanwhile, its buttons, and the shown step. */

const LIVE_ENGINES = {wasm: "the processor", webgpu: "the graphics card (WebGPU)"};
const LIVE_ACTIVE = ["loading", "running", "paused"];

const liveStops = (first, last) => {
  const stops = [];
  for (let e = first; e < last; e += 1) for (const m of [1, 1.5, 2, 3, 5, 7]) stops.push(Number(`${m}e${e}`));
  return [...stops, Number(`1e${last}`)];
};

// The strengths that a rule offers: below the first nothing happens within a run, above the last the weights do not last.
const liveStrengths = (rule) => [0, ...(rule === "l2" ? liveStops(-2, 2) : [...liveStops(-3, -1), 0.15, 0.2, 0.3])];

// A labelled slider over a list of numbers, which takes up a value that is not in it; over() gives it another list.
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
  const over = (other) => (values = other);
  return {field, input, show, over, value: () => values[input.value]};
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

const liveControls = (trainer, {moved, chosen}) => {
  const strengths = {}; // of each rule, as it was last chosen
  let given = {}; // the config that was shown last: it may say what no control offers
  const preset = element("select", {onchange: () => chosen()});
  fill(preset, Object.entries(trainer.presets).map(([value, {label}]) => ({value, text: label})), Object.keys(trainer.presets)[0]);
  const shows = element("p", {className: "lab-live-shows"}); // what the preset is for
  const fractions = Array.from({length: 17}, (_, i) => (i + 2) / 20);
  const fraction = liveSlider("fraction", fractions, () => {}, (value) => `${percent(value)} of the pairs`);
  const seed = element("input", {type: "number", min: 0, max: 4294967295, step: 1, value: 0, inputMode: "numeric"});
  seed.addEventListener("change", () => (seed.value = Math.min(Math.max(Math.trunc(Number(seed.value)) || 0, seed.min), seed.max)));
  const rule = element("select");
  fill(rule, trainer.rules.map((value) => ({value, text: LIVE_RULES[value] ?? value})), trainer.rules[0]);
  const strength = liveSlider("strength λ", liveStrengths(rule.value), () => {
    strengths[rule.value] = strength.value();
    moved();
  });
  const rest = liveSlider("L2 beside it", [0, ...liveStops(-2, 1)], moved);
  const lr = liveSlider("learning rate", liveStops(-4, -1), moved);

  // The switches of an experiment. A kernel cannot hold norms from the middle of a run on.
  const switches = {};
  const rows = Object.entries(LIVE_SWITCHES).filter(([key]) => key !== "hold" || trainer.kind === "page");
  const choices = rows.map(([key, {label, values}]) => {
    switches[key] = element("select", {onchange: () => moved()});
    fill(switches[key], Object.entries(values).map(([value, text]) => ({value, text})), Object.keys(values)[0]);
    return labelled(label, switches[key]);
  });

  // What the rule does not have, no slider offers.
  const fit = () => {
    strength.input.disabled = rule.value === "none";
    rest.input.disabled = ["none", "l2"].includes(rule.value);
    rest.field.hidden = rest.input.disabled;
    switches.part.disabled = !["lrd", "elastic"].includes(rule.value);
    switches.select.disabled = rule.value === "none";
  };
  rule.addEventListener("change", () => {
    strength.over(liveStrengths(rule.value));
    strength.show(strengths[rule.value]);
    fit();
    moved();
  });

  // A choice, also of what it does not offer.
  const choose = (select, value) => {
    if (![...select.options].some((option) => option.value === value)) select.append(element("option", {value, textContent: value}));
    select.value = value;
  };
  const show = (config) => {
    given = config;
    rule.value = config.rule;
    strengths[config.rule] = config.weight_decay;
    strength.over(liveStrengths(config.rule));
    strength.show(config.weight_decay);
    rest.show(config.l2 ?? 0);
    lr.show(config.lr);
    for (const [key, input] of Object.entries(switches)) if (config[key] !== undefined) choose(input, config[key]);
    fraction.show(config.fraction);
    seed.value = config.seed;
    fit();
  };
  // The preset as it is, without what has been moved since.
  const restore = () => {
    const {config: fields, first} = trainer.presets[preset.value];
    Object.assign(strengths, first);
    shows.textContent = trainer.presets[preset.value].shows ?? "";
    shows.hidden = !shows.textContent;
    show(fields);
  };
  // Where L2 acts no control says: as it was given, and with other blocks than then, on those.
  const whereL2 = () => {
    if (rule.value !== "l2") return "all";
    if (given.rule === "l2" && given.select === switches.select.value) return given.l2_on ?? "all";
    return switches.select.value === "attention+mlp" ? "all" : "selected";
  };
  const live = () => ({
    rule: rule.value,
    weight_decay: strength.value(),
    l2: rest.input.disabled ? 0 : rest.value(),
    lr: lr.value(),
    ...Object.fromEntries(Object.entries(switches).map(([key, input]) => [key, input.value])),
    part: switches.part.disabled ? "both" : switches.part.value,
    l2_on: whereL2(),
  });
  const config = () => ({
    ...trainer.presets[preset.value].config,
    ...live(),
    fraction: fraction.value(),
    seed: Number(seed.value),
  });

  const before = element("fieldset", {className: "lab-live-group"}, element("legend", {textContent: "Before it starts"}));
  before.append(labelled("preset", preset), shows, fraction.field, labelled("seed", seed));
  const engines = trainer.engines ?? [];
  const engine = element("select");
  fill(engine, engines.map((value) => ({value, text: LIVE_ENGINES[value] ?? value})), engines[0]);
  if (engines.length > 1) before.append(labelled("runs on", engine)); // a choice of one is none
  const during = element("fieldset", {className: "lab-live-group"}, element("legend", {textContent: "Also while it trains"}));
  during.append(labelled("rule", rule), rest.field, lr.field);
  const more = element("details", {className: "lab-live-more"}, element("summary", {textContent: "Switches of an experiment"}), ...choices);
  during.append(more);
  const lock = (active, gone) => {
    before.disabled = active || gone;
    during.disabled = gone;
    strength.input.disabled = gone || rule.value === "none";
  };
  restore();
  const engineOf = () => engine.value || undefined;
  const take = (name) => (preset.value = name) && restore();
  return {groups: [before, during], strength: strength.field, show, restore, take, live, config, engine: engineOf, lock};
};

// A button that may not act now says so and does nothing. It is not disabled: that would take the focus of a keyboard away.
const liveButtons = (acts) => {
  const makeButton = (name, act) => {
    const button = element("button", {type: "button", textContent: name});
    button.addEventListener("click", () => button.getAttribute("aria-disabled") === "true" || act());
    return button;
  };
  const buttons = Object.fromEntries(Object.entries(acts).map(([name, act]) => [name, makeButton(name, act)]));
  let size = null; // megabytes that the first start loads
  // past: a run is shown that was trained before, of which nothing is here to go on with.
  const follow = (state, records, past = false) => {
    const active = LIVE_ACTIVE.includes(state);
    const paused = state === "paused";
    const allow = {
      Start: !active && state !== "gone",
      Pause: state === "running" || paused,
      Step: state === "running" || paused,
      Stop: active,
      Reset: state !== "gone" && (active || records > 0 || past || state === "failed"),
      Download: state !== "gone" && records > 0 && !past,
    };
    const begun = active || records > 0 || past || state === "failed";
    for (const [name, button] of Object.entries(buttons)) {
      button.setAttribute("aria-disabled", String(!allow[name]));
      button.hidden = name !== "Start" && !begun && document.activeElement !== button; // nothing is behind it yet
    }
    buttons.Start.textContent = records && !active ? "Start again" : "Start";
    if (size && !begun) buttons.Start.append(element("span", {className: "lab-live-size", "aria-hidden": "true", textContent: ` (loads ${size} MB once)`}));
    buttons.Pause.textContent = paused ? "Resume" : "Pause";
  };
  return {row: element("div", {className: "lab-live-buttons"}, ...Object.values(buttons)), follow, weigh: (megabytes) => (size = megabytes)};
};

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
    row.hidden = !steps.length;
    input.disabled = steps.length < 2;
    input.max = Math.max(0, steps.length - 1);
    if (following) input.value = input.max;
    tell();
  };
  tell();
  const row = element("div", {className: "lab-live-scrub", hidden: true}, field, latest);
  return {row, follow, jump: (step) => take(recordAt(steps, step)), step: () => steps[input.value] ?? 0};
};
