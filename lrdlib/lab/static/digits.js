/* Reads the codes of lrdlib/lab/digits.py: text of two digits a number, the high digits of all numbers first. */

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const PLACES = new Uint8Array(128);
[...DIGITS].forEach((digit, place) => (PLACES[digit.charCodeAt(0)] = place));

const decode = ({low, high, log, text}) => {
  const n = text.length / 2;
  const known = new Map(); // a power costs more than a look at what was computed
  const value = (whole) => {
    if (!known.has(whole)) {
      const x = low + (whole * (high - low)) / 4095;
      known.set(whole, log ? 10 ** x : x);
    }
    return known.get(whole);
  };
  return Array.from({length: n}, (_, i) =>
    text[i] === "~" ? NaN : value(64 * PLACES[text.charCodeAt(i)] + PLACES[text.charCodeAt(n + i)]),
  );
};

const decodeRows = (code) => {
  const flat = decode(code);
  return Array.from({length: flat.length / code.size}, (_, i) => flat.slice(i * code.size, (i + 1) * code.size));
};

const decodeEach = (codes) => Object.fromEntries(Object.entries(codes).map(([name, code]) => [name, decode(code)]));
