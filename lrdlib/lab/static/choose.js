/* Which recorded run: from the index, a reader's choice, or the address of the page.
 *
 * A row is a line of the index as an object. Its place is read in the order of KEYS: a choice keeps what comes before it
 * and takes, of what comes after, the recorded value nearest to the one before.
 */

const KEYS = ["setting", "rule", "variant", "lr", "strength", "fraction", "seed"];
const IN_ADDRESS = {setting: "task", rule: "rule", variant: "mode", lr: "lr", strength: "lambda", fraction: "f", seed: "seed"};

const rowsOf = ({columns, runs}) =>
  runs.map((run) => {
    const row = Object.fromEntries(columns.map((name, i) => [name, run[i]]));
    // one value each: a strength with its second part, a seed with how finely it was recorded
    const strength = row.rule === "elastic" || row.l2 ? `${row.strength},${row.l2}` : String(row.strength);
    return {...row, strength, amount: row.strength, seed: `${row.seed}/${row.every}`, number: row.seed};
  });

const amountOf = (value) => Number(String(value).split(/[,/]/)[0]);

// How far apart two values of a key are; what is no number is the same or not.
const distance = (key, a, b) => {
  if (a === b) return 0;
  if (key === "setting" || key === "rule" || key === "variant") return 1;
  const [x, y] = [amountOf(a), amountOf(b)];
  const far = key === "strength" || key === "lr" ? Math.abs(Math.log((x || 1e-9) / (y || 1e-9))) : Math.abs(x - y);
  return far + 1e-6;
};

const PREFERRED = {variant: "independent", lr: "0.001", fraction: "0.4", seed: "0/50", strength: "0.01"};

// Of some rows the one nearest to `wish`, key by key, the first key deciding first.
const nearest = (rows, wish, keys = KEYS) => {
  const far = (row) => keys.map((key) => distance(key, row[key], (wish[key] || PREFERRED[key]) ?? row[key]));
  const less = (a, b) => {
    const at = a.findIndex((value, i) => Math.abs(value - b[i]) > 1e-9);
    return at >= 0 && a[at] < b[at];
  };
  return rows.map((row) => [far(row), row]).reduce((best, one) => (less(one[0], best[0]) ? one : best))[1];
};

const same = (key, value, wished) => value === wished || distance(key, value, wished) === 1e-6;

// The row that the reader's choice of one key leads to; wish: all that has been chosen so far.
const chosen = (rows, row, key, value, wish = row) => {
  const before = KEYS.slice(0, KEYS.indexOf(key));
  const left = rows.filter((one) => one[key] === value && before.every((name) => one[name] === row[name]));
  return left.length ? nearest(left, wish) : row;
};

// Every recorded value of a key that can be had with what comes before it.
const optionsOf = (rows, row, key) => {
  const before = KEYS.slice(0, KEYS.indexOf(key));
  const found = new Set();
  for (const one of rows) {
    let open = true; // a loop, as this is the longest work before the first picture
    for (const name of before) if (one[name] !== row[name]) open = false;
    if (open) found.add(one[key]);
  }
  const values = [...found];
  const numeric = ["lr", "strength", "fraction", "seed"].includes(key);
  return numeric ? values.sort((a, b) => amountOf(a) - amountOf(b) || String(a).localeCompare(String(b))) : values;
};

// ---- the address: #lab:rule=lrd&lambda=0.01&f=0.4&step=700, and vs.rule=l2&... for the second run

const START = "#lab:";

const readAddress = (hash) => {
  if (!hash.startsWith(START)) return null;
  const entries = [...new URLSearchParams(hash.slice(START.length))];
  const side = (prefix) =>
    Object.fromEntries(entries.filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]));
  const second = side("vs.");
  const {step, matrix, ...first} = side("");
  return {first, second: Object.keys(second).length ? second : null, step: step === undefined ? null : Number(step), matrix};
};

// The row that an address asks for, and the part of it that no recorded run has.
const rowAt = (rows, asked) => {
  const wish = {};
  for (const key of KEYS) if (asked[IN_ADDRESS[key]] !== undefined) wish[key] = asked[IN_ADDRESS[key]];
  let left = rows;
  const lost = [];
  for (const key of KEYS.filter((name) => name in wish)) {
    const kept = left.filter((row) => String(row[key]) === wish[key]);
    const near = kept.length ? kept : left.filter((row) => ["lr", "strength", "fraction", "seed"].includes(key) && same(key, row[key], wish[key]));
    near.length ? (left = near) : lost.push(`${IN_ADDRESS[key]} ${wish[key]}`);
  }
  return {row: nearest(left, wish), lost};
};

const writeAddress = (first, second, step, matrix) => {
  const of = (prefix, row) =>
    KEYS.filter((key) => row[key] !== "").map((key) => `${prefix}${IN_ADDRESS[key]}=${encodeURIComponent(row[key]).replaceAll("%2C", ",").replaceAll("%2F", "/").replaceAll("%3A", ":")}`);
  const parts = [...of("", first), ...(second ? of("vs.", second) : []), `step=${step}`];
  return START + [...parts, ...(matrix ? [`matrix=${matrix}`] : [])].join("&");
};

// ---- names

// λ, and of two decays in one the strength of the L2 beside it, which always counts times the learning rate.
const strengthWords = (value, times = "") => {
  const [low, l2] = value.split(",");
  return low + times + (l2 === undefined ? "" : `, L2 ${l2}`);
};

const nameOf = (index, row) => {
  const times = row.variant.startsWith("decoupled") ? " × lr" : "";
  return index.rules[row.rule] + (row.rule === "none" ? "" : ` λ = ${strengthWords(row.strength, times)}`);
};

const noteOf = (index, row) =>
  `${index.settings[row.setting]}, ${Number((100 * row.fraction).toFixed(1))}% of the pairs, learning rate ${row.lr}, seed ${row.number}`;
