/* Starts the labs of a page: every <div class="lrd-lab" data-lab="recorded"> (or "train"). Last of the page's script.
 *
 * Pieces of data are scripts beside this one, data/NAME.js, that call lrdLab.piece(NAME, data): a page that was opened as
 * a file can load them as well.
 */

const HERE = document.currentScript.src;
const waiting = new Map(); // name -> {promise, resolve}

const piece = (name, data) => waiting.get(name)?.resolve(data);

const load = (name) => {
  if (!waiting.has(name)) {
    const entry = {};
    entry.promise = new Promise((resolve, reject) => {
      const tag = element("script", {src: new URL(`data/${name}.js`, HERE).href});
      tag.onerror = () => {
        waiting.delete(name);
        reject(new Error(`no ${name}`));
      };
      tag.onload = () => tag.remove();
      entry.resolve = resolve;
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

const boot = async () => {
  window.lrdLab = {piece};
  for (const root of document.querySelectorAll(".lrd-lab")) {
    const start = LABS[root.dataset.lab];
    if (!start || root.dataset.state) continue;
    root.dataset.state = "loading";
    try {
      await start(root);
      if (root.dataset.state === "loading") root.dataset.state = "ready"; // a lab that trains says how it stands
    } catch (error) {
      console.error(error);
      root.dataset.state = "failed";
      root.replaceChildren(element("p", {role: "alert", textContent: `The lab could not be started: ${error.message}.`}));
    }
  }
};
