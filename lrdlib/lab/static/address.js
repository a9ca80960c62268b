/* The address of a run that trains here: #train:preset=small&seed=0&...&then=350:weight_decay=0, with every change by hand. */

const TRAIN_START = "#train:";
const TRAIN_FIELDS = ["fraction", "seed", "rule", "weight_decay", "l2", "lr"];
const TRAIN_WORDS = ["l2_on", ...Object.keys(LIVE_SWITCHES)]; // fields that are words, and in the address if not the preset's
const TRAIN_SETS = ["rule", "weight_decay", "l2", "lr", ...TRAIN_WORDS]; // what a change may set

// own: the preset's config.
const writeTrain = (preset, own, config, changes) => {
  const told = TRAIN_WORDS.filter((key) => config[key] !== own[key]);
  const fields = [["preset", preset], ...[...TRAIN_FIELDS, ...told].map((key) => [key, config[key]])];
  const then = changes.flatMap(({step, ...news}) => Object.entries(news).map(([key, value]) => ["then", `${step}:${key}=${value}`]));
  return TRAIN_START + [...fields, ...then].map(([key, value]) => `${key}=${value}`).join("&");
};

// Whether a number can be that of a run, as TrainConfig has it; a learning rate of 0 is one here.
const TRAIN_RANGES = {
  fraction: (value) => value > 0 && value < 1,
  seed: (value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32,
};
const isNumber = (key, text) => text !== null && text.trim() !== "" && Number.isFinite(Number(text)) && (TRAIN_RANGES[key] ?? ((value) => value >= 0))(Number(text));

// {preset, config, plan} of an address, or null where it is none, or of no preset that there is here. What no run can have,
// or a rule that is not here, is that of the preset.
const readTrain = (hash, presets, rules) => {
  if (!hash.startsWith(TRAIN_START)) return null;
  const parts = hash.slice(TRAIN_START.length).split("&").map((part) => [part.split("=", 1)[0], part.slice(part.indexOf("=") + 1)]);
  const asked = new Map(parts);
  const preset = asked.get("preset");
  if (!Object.hasOwn(presets, preset)) return null;
  const own = presets[preset].config;
  const words = {rule: rules, l2_on: ["all", "selected"]};
  for (const [key, {values}] of Object.entries(LIVE_SWITCHES)) words[key] = Object.keys(values);
  const valueOf = (key, text, other) => {
    if (words[key]) return words[key].includes(text) ? text : other;
    return isNumber(key, text) ? Number(text) : other;
  };
  const config = {...own};
  for (const key of [...TRAIN_FIELDS, ...TRAIN_WORDS]) config[key] = valueOf(key, asked.get(key) ?? null, own[key]);
  const plan = [];
  for (const [, text] of parts.filter(([name]) => name === "then")) {
    const [, step, key, value] = /^(\d+):(\w+)=(.*)$/.exec(text) ?? [];
    const set = TRAIN_SETS.includes(key) ? valueOf(key, value, null) : null;
    if (set !== null) plan.push({step: Number(step), [key]: set});
  }
  return {preset, config, plan};
};
