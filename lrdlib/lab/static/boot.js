/* Starts the labs of a page: every <div class="lrd-lab" data-lab="recorded"> (or "train"). Last of the page's script.
 *
 * Pieces of data are scripts beside this one, data/NAME.js, that call lrdLab.piece(NAME, data): a page that was opened as
 * a file can load them as well.
 */

const HERE = document.currentScript.src;
const PIECE_PATIENCE = 30_000; // milliseconds until a piece that does not come is given up
const waiting = new Map(); // name -> {promise, resolve}

const piece = (name, data) => waiting.get(name)?.resolve(data);

const load = (name) => {
  if (!waiting.has(name)) {
    const entry = {};
    entry.promise = new Promise((resolve, reject) => {
      const tag = element("script", {src: new URL(`data/${name}.js`, HERE).href});
      const give = (why) => {
        clearTimeout(timer);
        tag.remove();
        if (waiting.get(name) === entry) waiting.delete(name); // so that it can be tried again
        reject(new Told(`The file ${name}.js ${why}`));
      };
      const timer = setTimeout(() => give(`has not come within ${PIECE_PATIENCE / 1000} seconds. Is there a network?`), PIECE_PATIENCE);
      tag.onerror = () => give("did not come: the network fails, or something here blocks it.");
      tag.onload = () => give("came in part, or is not what it should be."); // else it has called `piece`, and this is nothing
      entry.resolve = (data) => {
        clearTimeout(timer);
        tag.onload = () => tag.remove();
        resolve(data);
      };
      document.head.append(tag);
    });
    waiting.set(name, entry);
  }
  return waiting.get(name).promise;
};

const LABS = {
  recorded: (root) => makeRecorded(root, load),
  train: typeof makeTrain === "undefined" ? null : makeTrain,
};

const attempt = async (root, start) => {
  root.dataset.state = "loading";
  try {
    await start(root);
    if (root.dataset.state === "loading") root.dataset.state = "ready"; // a lab that trains says how it stands
  } catch (error) {
    root.dataset.state = "failed";
    if (!(error instanceof Told)) console.error(error);
    const again = element("button", {type: "button", textContent: "Try again", onclick: () => attempt(root, start)});
    root.replaceChildren(element("p", {role: "alert", textContent: `The lab could not be started. ${error.message}`}), again);
  }
};

const boot = () => {
  window.lrdLab = {piece};
  for (const root of document.querySelectorAll(".lrd-lab")) {
    const start = LABS[root.dataset.lab];
    if (start && !root.dataset.state) attempt(root, start);
  }
};
