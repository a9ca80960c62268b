/* What the page's own lab has beside training: a run laid beside it, runs that are kept here or dropped on it, its address,
 * and questions to the network.
 *
 * ownOf(live) is the extension that makeLive takes.
 */

const OWN_CHARTS = ["accuracy", "rank", "spectrum", "fourier", "pattern", "table"];

// Runs that this browser keeps: a list, with a button to show one and one to forget it.
const makeKept = ({trainer, open, say}) => {
  const select = element("select");
  const act = (name, job) => element("button", {type: "button", textContent: name, onclick: () => job(Number(select.value)).catch((error) => say(error.message))});
  const show = act("Show", (id) => open(trainer.kept.show(id)));
  const forget = act("Delete", async (id) => list(await trainer.kept.forget(id)));
  const node = element("div", {className: "lab-kept", hidden: true}, labelled("kept here", select), show, forget);
  const list = ({runs}) => {
    fill(select, runs.map(({id, name}) => ({value: id, text: name})), runs[0]?.id);
    node.hidden = !runs.length;
    return runs;
  };
  const ask = async () => {
    try {
      return list(await trainer.kept.list());
    } catch {
      return []; // who starts is told what is wrong
    }
  };
  return {node, ask};
};

// A file of a run, chosen or dropped on the page.
const makeFile = ({root, trainer, open, say}) => {
  const take = async (file) => {
    if (!file) return;
    try {
      await open(file.arrayBuffer().then((bytes) => trainer.open(new Uint8Array(bytes))));
      root.scrollIntoView();
    } catch (error) {
      say(error.message);
    }
  };
  const input = element("input", {type: "file", accept: ".npz", className: "lab-file", onchange: () => take(input.files[0])});
  input.addEventListener("click", () => (input.value = "")); // so that the same file is a choice again
  for (const kind of ["dragover", "drop"])
    document.addEventListener(kind, (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault(); // else the browser leaves the page for the file
      if (kind === "drop") take(event.dataTransfer.files[0]);
    });
  return element("label", {className: "lab-field"}, element("span", {textContent: "open a run"}), input);
};

const makeBeside = ({draw}) => {
  const box = element("input", {type: "checkbox", onchange: () => draw()});
  const node = element("label", {className: "lab-beside"}, box, element("span", {textContent: "with the recorded run from above"}));
  const run = () => (box.checked ? RECORDED_SHOWN.run : null);
  node.hidden = true;
  const offer = () => (node.hidden = !RECORDED_SHOWN.run);
  document.addEventListener("lrd:shown", () => {
    offer();
    if (box.checked) draw();
  });
  offer();
  return {node, run};
};

// The five answers that the network of now finds likeliest.
const likeliest = async (trainer, row) => {
  const {probabilities, ...rest} = await trainer.ask(row);
  const answers = probabilities.map((share, value) => ({share, value})).sort((x, y) => y.share - x.share).slice(0, 5);
  return {...rest, answers};
};

const ownOf = (live) => {
  const {trainer, controls, changes} = live;
  const ask = makeAsk(live.root, (row) => likeliest(trainer, row), live.say);
  const kept = makeKept(live);
  const beside = makeBeside(live);
  let begun = null; // {preset, config} of the run that trains
  let written = "";
  let before = "idle";
  let later = null;

  const write = () => {
    later = null;
    const hash = writeTrain(begun.preset, trainer.presets[begun.preset].config, begun.config, changes());
    if (hash === written) return;
    written = hash;
    history.replaceState(history.state, "", hash);
  };
  trainer.on("begun", ({config}) => {
    begun = {preset: trainer.presetOf(config), config};
    ask.ready(null);
  });
  trainer.on("record", ({table}) => live.past() || ask.ready(table));
  const told = ({state}) => {
    if (begun && LIVE_ACTIVE.includes(state)) later ??= setTimeout(write, 300); // browsers refuse an address that changes too often
    if (state === "idle" && before !== "idle") ask.ready(null);
    if (state !== before && (state === "done" || state === "stopped")) kept.ask();
    before = state;
  };

  // A run that this page had when it was left, by Reload or Back, is shown again.
  const resume = async () => {
    const runs = await kept.ask();
    const way = performance.getEntriesByType("navigation")[0]?.type;
    if (runs.length && before === "idle" && !live.past() && ["reload", "back_forward"].includes(way)) await live.open(trainer.kept.show(runs[0].id));
  };
  const replay = (hash) => {
    const asked = readTrain(hash, trainer.presets, trainer.rules);
    if (!asked) return false;
    controls.take(asked.preset);
    controls.show(asked.config);
    live.start(asked.plan);
    return true;
  };
  return {left: [beside.node, kept.node, makeFile(live)], below: [ask.node], charts: OWN_CHARTS, beside: beside.run, told, opened: () => ask.ready(null), resume, replay};
};
