/* Files from the site, with a word on how much of them has come, and a sentence for the reader where they do not. */

const FILES_PATIENCE = 30_000; // milliseconds without a single byte

// An error whose message is a sentence for the reader, which also says what to do.
class Told extends Error {}

// Pieces of bytes in one.
const joined = (parts) => {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
};

const nameOfFile = (url) => new URL(url).pathname.split("/").at(-1);

// Why this page can fetch nothing at all, or null.
const shutPage = () => {
  if (self.location.protocol === "file:")
    return "This page was opened as a file, and no browser lets a file train. Serve its folder, for example by “python -m http.server”, and open it from there.";
  if (self.origin === "null") return "This page stands in a frame that lets it load nothing. Open it in a tab of its own.";
  return null;
};

const bytesOfAnswer = async (answer, told, beat) => {
  const reader = answer.body.getReader();
  const parts = [];
  for (let {done, value} = await reader.read(); !done; {done, value} = await reader.read()) {
    beat();
    parts.push(value);
    told(value.length);
  }
  return joined(parts);
};

// The bytes of a file; told(count) is called as they come. Raises Told.
const fetchBytes = async (url, {told = () => {}} = {}) => {
  const file = nameOfFile(url);
  const slow = new AbortController();
  let timer = null;
  const beat = () => {
    clearTimeout(timer);
    timer = setTimeout(() => slow.abort(), FILES_PATIENCE);
  };
  beat();
  try {
    const answer = await fetch(url, {signal: slow.signal});
    if (!answer.ok) throw new Told(`The file ${file} is not on this site (${answer.status}). Reload the page; if that does not help, the site is not whole.`);
    return await bytesOfAnswer(answer, told, beat);
  } catch (error) {
    if (error instanceof Told) throw error;
    if (slow.signal.aborted) throw new Told(`Nothing more has come of ${file} for ${FILES_PATIENCE / 1000} seconds. Is there a network? Then try again.`);
    throw new Told(shutPage() ?? `The file ${file} did not come whole: the network fails, or something here blocks it (an extension, a firewall). Then try again.`);
  } finally {
    clearTimeout(timer);
  }
};

const otherFile = (url) =>
  new Told(`The server sent something else for ${nameOfFile(url)}. Reload the page; if that does not help, the site is not whole.`);

// What a file must begin with: a server that answers everything by a page of text is found out.
const BEGINNINGS = {wasm: [0, 0x61, 0x73, 0x6d], onnx: [8]};
const fetchWhole = async (url, options) => {
  const bytes = await fetchBytes(url, options);
  const begins = BEGINNINGS[nameOfFile(url).split(".").at(-1)] ?? [];
  if (begins.every((byte, i) => bytes[i] === byte)) return bytes;
  throw otherFile(url);
};

const jsonOf = (bytes, url) => {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw otherFile(url);
  }
};
