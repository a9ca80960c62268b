/* SHA-256 (FIPS 180-4). A page that came over plain http has no crypto.subtle, and its runs have a checksum all the same. */

const shaPrimes = (count) => {
  const found = [];
  for (let n = 2; found.length < count; n += 1) if (found.every((prime) => n % prime)) found.push(n);
  return found;
};
// The first 32 bits of the fraction of a root.
const shaRoot = (power) => (prime) => ((prime ** power % 1) * 2 ** 32) >>> 0;
const SHA_ROUNDS = shaPrimes(64).map(shaRoot(1 / 3));
const SHA_START = shaPrimes(8).map(shaRoot(1 / 2));

const shaBlock = (state, words) => {
  const turned = (x, by) => (x >>> by) | (x << (32 - by));
  for (let t = 16; t < 64; t += 1) {
    const [a, b] = [words[t - 15], words[t - 2]];
    const low = turned(a, 7) ^ turned(a, 18) ^ (a >>> 3);
    const high = turned(b, 17) ^ turned(b, 19) ^ (b >>> 10);
    words[t] = (words[t - 16] + low + words[t - 7] + high) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let t = 0; t < 64; t += 1) {
    const one = (h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + SHA_ROUNDS[t] + words[t]) | 0;
    const two = ((turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i] += value));
};

// The digest of bytes, in hexadecimal digits.
const sha256 = (bytes) => {
  const padded = new Uint8Array(64 * Math.ceil((bytes.length + 9) / 64));
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, bytes.length << 3);
  const state = Uint32Array.from(SHA_START);
  const words = new Int32Array(64);
  for (let at = 0; at < padded.length; at += 64) {
    for (let t = 0; t < 16; t += 1) words[t] = view.getInt32(at + 4 * t);
    shaBlock(state, words);
  }
  return Array.from(state, (word) => word.toString(16).padStart(8, "0")).join("");
};
