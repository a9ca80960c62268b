/* A run as lrdlib.training.runs.save_run writes it: an .npz (a zip of .npy files, by fflate) with a JSON header and a checksum. */

const tupleOf = (shape) => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`; // as Python prints it

// dtype: numpy's name, such as "<f4"; shape: a list.
const npy = ({dtype, shape, bytes}) => {
  const text = `{'descr': '${dtype}', 'fortran_order': False, 'shape': ${tupleOf(shape)}, }`;
  const header = text + " ".repeat(63 - ((10 + text.length) % 64)) + "\n";
  const file = new Uint8Array(10 + header.length + bytes.length);
  file.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]); // magic, version 1.0
  file.set(new TextEncoder().encode(header), 10);
  file.set(bytes, 10 + header.length);
  return file;
};

const bytesOf = (typed) => new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength);
const float32 = (values, shape) => ({dtype: "<f4", shape, bytes: bytesOf(Float32Array.from(values))});
const int64 = (values) => ({dtype: "<i8", shape: [values.length], bytes: bytesOf(BigInt64Array.from(values, BigInt))});

// lrdlib.training.store's checksum: SHA-256 over names, types, shapes and bytes.
const digest = (arrays) => {
  const parts = Object.keys(arrays).sort().flatMap((name) => {
    const {dtype, shape, bytes} = arrays[name];
    return [new TextEncoder().encode(`${name} ${dtype} ${tupleOf(shape)}\n`), bytes];
  });
  return sha256(joined(parts));
};

// The bytes of a run's file. records as the worker makes them; weights: {name: {shape, values}}; level: of compression.
const runFile = ({config, provenance, records, weights}, level = 6) => {
  const arrays = {"history/step": int64(records.map(({step}) => step))};
  for (const name of Object.keys(records[0].metrics))
    arrays[`history/${name}`] = float32(records.map(({metrics}) => metrics[name]), [records.length]);
  const rows = (prefix, lists) => {
    for (const name of Object.keys(lists[0])) {
      const values = lists.flatMap((list) => Array.from(list[name]));
      arrays[`${prefix}/${name}`] = float32(values, [lists.length, lists[0][name].length]);
    }
  };
  rows("spectra", records.map(({spectra}) => spectra));
  if (records[0].fourier) rows("fourier", records.map(({fourier}) => ({embedding: fourier})));
  for (const [name, {shape, values}] of Object.entries(weights)) arrays[`weights/${name}`] = float32(values, shape);
  const header = JSON.stringify({config, provenance, kind: "lrdlib-run/1", sha256: digest(arrays)});
  const text = new TextEncoder().encode(header);
  const files = {"header.json.npy": npy({dtype: "|u1", shape: [text.length], bytes: text})};
  for (const [name, array] of Object.entries(arrays)) files[`${name}.npy`] = npy(array);
  return fflate.zipSync(files, {level});
};
