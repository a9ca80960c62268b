/* The random numbers of lrdlib: numpy's RandomState and torch's CPU generator, both a Mersenne Twister (Matsumoto and
 * Nishimura 1998). So a seed names the same split, the same batches and the same initial weights here as in Python;
 * tests/test_lab_train.py holds them against numpy and torch.
 */

const TWISTER = 624;

// 32-bit numbers from a seed: an integer, or a list of integers.
const twister = (seed) => {
  const state = new Uint32Array(TWISTER); // its entries wrap at 2^32
  let at = TWISTER;
  const from = (integer) => {
    state[0] = integer;
    for (let i = 1; i < TWISTER; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  };
  const fromList = (key) => {
    from(19650218);
    let i = 1;
    const mix = (factor, added) => {
      state[i] = (state[i] ^ Math.imul(state[i - 1] ^ (state[i - 1] >>> 30), factor)) + added();
      if (++i >= TWISTER) {
        state[0] = state[TWISTER - 1];
        i = 1;
      }
    };
    for (let k = 0; k < Math.max(TWISTER, key.length); k++) mix(1664525, () => key[k % key.length] + (k % key.length));
    for (let k = 1; k < TWISTER; k++) mix(1566083941, () => -i);
    state[0] = 0x80000000;
  };
  const twist = () => {
    for (let i = 0; i < TWISTER; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % TWISTER] & 0x7fffffff);
      state[i] = state[(i + 397) % TWISTER] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    at = 0;
  };
  Array.isArray(seed) ? fromList(seed) : from(seed);
  return () => {
    if (at >= TWISTER) twist();
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
};

// numpy.random.RandomState(seed).permutation(n).
const permutation = (seed, n) => {
  const next = twister(seed);
  const order = Int32Array.from({length: n}, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const mask = 2 ** (32 - Math.clz32(i)) - 1;
    let j;
    do j = (next() & mask) >>> 0;
    while (j > i);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
};

// torch.randn(n, generator=...) to rounding: Box and Muller 1958, sixteen at a time, as torch fills a tensor.
const normals = (next, n) => {
  if (n < 16) throw new Error(`n must be at least 16, got ${n}`);
  const uniform = () => (next() & 0xffffff) / 2 ** 24;
  const values = Float32Array.from({length: n}, uniform);
  const fill = (start) => {
    for (let j = start; j < start + 8; j++) {
      const radius = Math.sqrt(-2 * Math.log(1 - values[j]));
      const angle = 2 * Math.PI * values[j + 8];
      values[j] = radius * Math.cos(angle);
      values[j + 8] = radius * Math.sin(angle);
    }
  };
  for (let start = 0; start + 16 <= n; start += 16) fill(start);
  if (n % 16) {
    for (let j = n - 16; j < n; j++) values[j] = uniform();
    fill(n - 16);
  }
  return values;
};

// lrdlib.model.init_params as one vector; shapes: [{name, size, std}], std null for a gain.
const initialWeights = (shapes, seed) => {
  const next = twister(seed);
  const weights = new Float32Array(shapes.reduce((sum, {size}) => sum + size, 0));
  let start = 0;
  for (const {size, std} of shapes) {
    weights.subarray(start, (start += size)).set(std === null ? new Float32Array(size).fill(1) : normals(next, size).map((z) => Math.fround(std) * z));
  }
  return weights;
};

const roundHalfEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

// lrdlib.tasks.split: rows of the table to train on (in shuffled order), to test on, and the clean part of those.
const splitOf = ({labels, swap}, fraction, seed) => {
  const order = permutation(seed, labels.length);
  const count = roundHalfEven(fraction * labels.length);
  const train = order.slice(0, count);
  const seen = new Uint8Array(labels.length);
  for (const row of train) seen[row] = 1;
  const test = order.slice(count).sort();
  return {train, test, orbit_clean: test.filter((row) => !seen[swap[row]])};
};

// lrdlib.training.batches.batches: the rows of each step in turn, from an endless row of shuffles of the training rows.
const batches = (train, seed, size) => {
  let kept = {};
  const shuffle = (epoch) => {
    if (kept.epoch !== epoch) kept = {epoch, order: permutation([seed, epoch], train.length)};
    return kept.order;
  };
  return (step) =>
    Int32Array.from({length: size}, (_, k) => {
      const at = step * size + k;
      return train[shuffle(Math.floor(at / train.length))[at % train.length]];
    });
};
