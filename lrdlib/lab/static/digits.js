/* Reads the codes of lrdlib/lab/digits.py: text of two digits a number, the high digits of all numbers first. */

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const PLACES = new Map([...DIGITS].map((digit, place) => [digit, place]));

const decode = ({low, high, log, text}) => {
  const n = text.length / 2;
  return Array.from({length: n}, (_, i) => {
    if (text[i] === "~") return NaN;
    const x = low + ((64 * PLACES.get(text[i]) + PLACES.get(text[n + i])) * (high - low)) / 4095;
    return log ? 10 ** x : x;
  });
};

const decodeRows = (code) => {
  const flat = decode(code);
  return Array.from({length: flat.length / code.size}, (_, i) => flat.slice(i * code.size, (i + 1) * code.size));
};

const decodeEach = (codes) => Object.fromEntries(Object.entries(codes).map(([name, code]) => [name, decode(code)]));
