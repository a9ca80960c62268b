/* A run's file read on the page: what lrdlib's load_run takes, and nothing else. It holds numbers; none of it is executed.
 *
 * openRun(bytes) -> {config, changes, steps, curves, spectra, fourier, pattern}, as panels.js wants it; raises Told.
 */

const RUN_KIND = "lrdlib-run/1";
const RUN_LIMIT = 2 ** 28; // bytes to which a file may unpack here
const AXES = {history: 1, spectra: 2, weights: 2, fourier: 2};
const NPY_HEAD = /^\{'descr': '([<|][biuf]\d)', 'fortran_order': (True|False), 'shape': \(((?:\d{1,10}(?:, ?|(?=\))))*)\),? ?\}\s*$/;
const NUMBERS_OF = {
  "<f8": Float64Array, "<f4": Float32Array, "<i8": BigInt64Array, "<u8": BigUint64Array, "<i4": Int32Array, "<u4": Uint32Array,
  "<i2": Int16Array, "<u2": Uint16Array, "|i1": Int8Array, "|u1": Uint8Array, "|b1": Uint8Array,
};
NUMBERS_OF["<f2"] = self.Float16Array;

const foreign = (why) => new Told(`This file is no whole run of lrdlib: ${why}. Take one that the lab or lrdlib’s save_run wrote.`);

// One .npy member as {dtype, shape, bytes, values}.
const readNpy = (name, file) => {
  const length = file[8] + 256 * file[9];
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0];
  const head = NPY_HEAD.exec(new TextDecoder("latin1").decode(file.subarray(10, 10 + length)));
  const [, dtype, fortran, sizes] = head ?? [];
  if (!magic.every((byte, i) => file[i] === byte) || !NUMBERS_OF[dtype]) throw foreign(`${name} holds no numbers that can be read here`);
  const shape = sizes.split(",").filter((size) => size.trim()).map(Number);
  const bytes = file.slice(10 + length);
  const own = NUMBERS_OF[dtype];
  if (bytes.length !== own.BYTES_PER_ELEMENT * shape.reduce((a, b) => a * b, 1)) throw foreign(`${name} is cut off`);
  if (fortran === "True" && shape.length > 1) throw foreign(`${name} is stored by columns`);
  return {dtype, shape, bytes, values: Array.from(new own(bytes.buffer), Number)};
};

const readMembers = (bytes) => {
  let size = 0;
  const wanted = ({name, originalSize}) => {
    if (!name.endsWith(".npy") || name.startsWith("__MACOSX/")) return false;
    size += originalSize;
    if (size > RUN_LIMIT) throw foreign("it would unpack to more than this page holds");
    return true;
  };
  let files;
  try {
    files = fflate.unzipSync(bytes, {filter: wanted});
  } catch (error) {
    throw error instanceof Told ? error : foreign("it cannot be unpacked");
  }
  return Object.fromEntries(Object.entries(files).map(([name, file]) => [name.slice(0, -4), readNpy(name, file)]));
};

const readHeader = ({bytes}) => {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw foreign("its header cannot be read");
  }
};

// {history: {name: array}, ...}, every array of the right number of axes, and those in time of one length.
const groupsOf = (arrays) => {
  const groups = Object.fromEntries(Object.keys(AXES).map((group) => [group, {}]));
  for (const [path, array] of Object.entries(arrays)) {
    const [group, ...rest] = path.split("/");
    if (!AXES[group] || array.shape.length !== AXES[group]) throw foreign(`${path} is not a part of a run`);
    groups[group][rest.join("/")] = array;
  }
  const {step} = groups.history;
  const timed = ["history", "spectra", "fourier"].flatMap((group) => Object.values(groups[group]));
  if (!step || !step.shape[0] || timed.some(({shape}) => shape[0] !== step.shape[0])) throw foreign("its records are not of one length");
  if (step.values.some((value, i) => !Number.isInteger(value) || (i && value <= step.values[i - 1]))) throw foreign("its steps do not rise");
  return groups;
};

const linesOfArray = ({shape: [rows, columns], values}) => Array.from({length: rows}, (_, i) => values.slice(i * columns, (i + 1) * columns));

// W_Q^T W_K (d, d) of layer 0, from Q and K of shape (k, d).
const patternOf = ({shape: [k, d], values: Q}, {values: K}) => {
  const product = new Float32Array(d * d);
  for (let r = 0; r < k; r += 1)
    for (let i = 0; i < d; i += 1) for (let j = 0; j < d; j += 1) product[i * d + j] += Q[r * d + i] * K[r * d + j];
  return Array.from(product);
};

// What was changed by hand: [{step, rule: text, or another setting: number}].
const CHANGED = {step: "number", rule: "string", weight_decay: "number", l2: "number", lr: "number"};
for (const key of ["part", "select", "l2_on", "hold", "attention"]) CHANGED[key] = "string";
const changesIn = ({changes = "[]"}) => {
  const known = (one) => Number.isInteger(one?.step) && Object.entries(one).every(([key, value]) => typeof value === CHANGED[key]);
  try {
    const list = JSON.parse(changes);
    if (list.every(known)) return list;
  } catch {}
  throw foreign("its changes by hand cannot be read");
};

const openRun = (bytes) => {
  const {"header.json": head, ...arrays} = readMembers(bytes);
  if (!head) throw foreign("it has no header");
  const {kind, sha256: sum, config, provenance} = readHeader(head);
  if (kind !== RUN_KIND) throw foreign(`it is ${String(kind).slice(0, 40)}`);
  if (digest(arrays) !== sum) throw foreign("its contents do not match its checksum");
  if (typeof config?.task !== "string" || typeof provenance !== "object" || !provenance) throw foreign("its config or its provenance is missing");
  const {history, spectra, weights, fourier} = groupsOf(arrays);
  const {step, ...metrics} = history;
  const [Q, K] = [weights["0.query"], weights["0.key"]];
  const square = Q && K && Q.shape.join() === K.shape.join();
  return {
    config,
    changes: changesIn(provenance),
    steps: step.values,
    curves: Object.fromEntries(Object.entries(metrics).map(([name, {values}]) => [name, values])),
    spectra: Object.fromEntries(Object.entries(spectra).filter(([name]) => /\.(query|key)$/.test(name)).map(([name, array]) => [name, linesOfArray(array)])),
    fourier: fourier.embedding ? linesOfArray(fourier.embedding) : null,
    pattern: square ? {size: Q.shape[1], steps: [step.values.at(-1)], values: [patternOf(Q, K)]} : null,
  };
};
