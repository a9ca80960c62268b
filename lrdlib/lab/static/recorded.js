/* The recorded lab: choose a run, or two, and move through its training. Everything comes from pieces of data.
 *
 * makeRecorded(root, load): load(name) is a promise of a piece.
 */

const FRAME = 90; // milliseconds from record to record while it plays
const MATRIX = "0.query"; // whose spectrum is shown first
const TOUR = 2500; // a link plays to its step in at most so many

const toRun = async (index, row, load) => {
  const data = await load(row.piece);
  const pattern = data.pattern ? await load(`${row.piece}.pattern`) : null;
  await new Promise((resolve) => setTimeout(resolve)); // reading a piece and drawing it are two tasks
  return {
    name: nameOf(index, row),
    note: noteOf(index, row),
    command: data.command,
    steps: data.steps,
    curves: decodeEach(data.curves),
    bands: data.bands && {...data.bands, low: decodeEach(data.bands.low), high: decodeEach(data.bands.high)},
    spectra: Object.fromEntries(Object.entries(data.spectra).map(([name, code]) => [name, decodeRows(code)])),
    fourier: data.fourier && decodeRows(data.fourier),
    pattern: pattern && {...pattern, values: pattern.values.map(decode)},
  };
};

// Keeps what was decoded: a run that is shown again is there at once.
const makeRuns = (index, load) => {
  const runs = new Map();
  return (row) => {
    if (!runs.has(row.piece)) {
      const run = toRun(index, row, load);
      run.catch(() => runs.delete(row.piece)); // so that it can be tried again
      runs.set(row.piece, run);
    }
    return runs.get(row.piece);
  };
};

// Play, pause, and a slider over the recorded steps.
const makeTransport = (move) => {
  let steps = [0];
  let timer = null;
  let until = null;
  const button = element("button", {type: "button", className: "lab-play"});
  const input = element("input", {type: "range", min: 0, step: 1, value: 0});
  const output = valueBeside();
  const say = () => {
    const text = `step ${steps[input.value]}`;
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
    button.textContent = timer ? "❚❚" : "▶";
    button.setAttribute("aria-label", timer ? "pause" : "play");
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    say();
  };
  const to = (place) => {
    input.value = place;
    say();
    move(steps[place]);
  };
  const play = (target, frame = FRAME) => {
    clearInterval(timer);
    until = target;
    timer = setInterval(() => {
      const next = Number(input.value) + 1;
      if (next <= until) to(next);
      if (next >= until) stop();
    }, frame);
    say();
  };
  button.onclick = () => {
    if (timer) return stop();
    if (Number(input.value) === steps.length - 1) to(0);
    play(steps.length - 1);
  };
  input.addEventListener("input", () => {
    if (timer) stop();
    to(Number(input.value));
  });
  const set = (next, step) => {
    steps = next;
    input.max = steps.length - 1;
    input.value = recordAt(steps, step);
    say();
  };
  const playTo = (step, fromStart) => {
    const target = recordAt(steps, step);
    if (fromStart || Number(input.value) > target) to(0);
    const count = target - Number(input.value);
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (still || count < 1) return stop(), to(target);
    play(target, Math.min(FRAME, TOUR / count));
  };
  const node = element("div", {className: "lab-transport"}, button, element("label", {className: "lab-stops"}, element("span", {textContent: "training"}), input, output));
  return {node, set, stop, playTo, focus: () => input.focus({preventScroll: true}), jump: (step) => (stop(), to(recordAt(steps, step))), step: () => steps[input.value]};
};

const makeRecorded = async (root, load) => {
  const index = await load("index");
  const rows = rowsOf(index);
  const runOf = makeRuns(index, load);
  const say = element("p", {className: "lab-say", role: "status"});
  const source = element("p", {className: "lab-source"});
  const plots = element("div", {className: "lab-plots"});
  const panels = makePanels(plots, 2);
  const chosenRows = [null, null]; // the second is null where nothing is compared
  let turn = 0;
  let matrix = MATRIX;
  let later = null;

  const settle = () => {
    clearTimeout(later); // browsers refuse an address that changes too often
    later = setTimeout(() => history.replaceState(null, "", address()), 200);
  };
  const address = () => writeAddress(chosenRows[0], chosenRows[1], transport.step(), matrix);
  const transport = makeTransport((step) => {
    panels.at(step);
    settle();
  });

  const show = async (said = "") => {
    const mine = ++turn;
    const shown = chosenRows.filter(Boolean);
    shown.forEach((row, i) => sides[i].show(row));
    sides[1].node.hidden = shown.length < 2;
    sides[0].rename(shown.length < 2 ? "the run" : "first run");
    compare.setAttribute("aria-pressed", String(shown.length > 1));
    say.textContent = said;
    plots.setAttribute("aria-busy", "true");
    let runs;
    try {
      runs = await Promise.all(shown.map(runOf));
    } catch (error) {
      if (mine !== turn) return false;
      plots.setAttribute("aria-busy", "false");
      say.textContent = `The data of this run could not be loaded (${error.message}). Choose another run, or this one again later.`;
      return false;
    }
    if (mine !== turn) return false;
    const steps = [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
    transport.set(steps, transport.step());
    source.textContent = `Recorded: ${runs.map((run) => `${run.name} (${run.note})`).join("; against it, ")}. ${rows.length} runs are recorded in all.`;
    panels.show({runs, step: transport.step(), matrix});
    plots.setAttribute("aria-busy", "false");
    return mine === turn;
  };

  const go = (slot) => async (row) => {
    transport.stop();
    const before = chosenRows[slot];
    chosenRows[slot] = row;
    const moved = row.fraction !== before.fraction && row.strength !== before.strength ? "The nearest recorded run is shown." : "";
    await show(moved);
    settle();
  };
  const tell = (words) => (say.textContent = words);
  const sides = [makeSide(index, rows, "the run", go(0), tell), makeSide(index, rows, "second run", go(1), tell)];

  // A rival for the run that is shown: L2 (for L2, LRD) at the same fraction, at its best strength.
  const rival = (row) => {
    const others = rows.filter((one) => one.setting === row.setting && one.rule === (row.rule === "l2" ? "lrd" : "l2"));
    const near = others.filter((one) => one.fraction === row.fraction && one.lr === row.lr);
    const pool = near.length ? near : others.length ? others : rows;
    return pool.reduce((best, one) => ((one.best ?? 0) > (best.best ?? 0) ? one : best));
  };
  const compare = element("button", {
    type: "button",
    textContent: "compare two runs",
    onclick: async () => {
      chosenRows[1] = chosenRows[1] ? null : rival(chosenRows[0]);
      await show();
      settle();
    },
  });
  const share = element("button", {
    type: "button",
    textContent: "copy a link to this view",
    onclick: async () => {
      history.replaceState(null, "", address());
      try {
        await navigator.clipboard.writeText(location.href);
        say.textContent = "The link is copied.";
      } catch {
        say.textContent = "The link is in the address bar of the browser.";
      }
    },
  });

  const enter = async (hash, play) => {
    const asked = readAddress(hash) ?? {first: {}, second: null, step: null};
    const found = [rowAt(rows, asked.first), asked.second && rowAt(rows, asked.second)];
    const fresh = found.some((one, i) => (one?.row ?? null) !== chosenRows[i]);
    [chosenRows[0], chosenRows[1]] = found.map((one) => one?.row ?? null);
    matrix = asked.matrix ?? MATRIX;
    const lost = found.flatMap((one) => one?.lost ?? []);
    if (!(await show(lost.length ? `Not recorded: ${lost.join(", ")}. The nearest recorded run is shown.` : ""))) return;
    const step = asked.step ?? (play ? transport.step() : Infinity);
    play ? transport.playTo(step, fresh) : transport.jump(step);
    clearTimeout(later); // the address is what was asked for
  };

  const here = element("div", {className: "lab-top-of-panels"}); // what is sticky cannot be scrolled to
  const tools = element("div", {className: "lab-tools"}, compare, share);
  const choice = element("div", {className: "lab-sides"}, ...sides.map(({node}) => node));
  root.replaceChildren(element("div", {className: "lab-top"}, source, tools), choice, here, transport.node, say, plots);
  plots.addEventListener("lrd:step", ({detail}) => transport.jump(detail));
  plots.addEventListener("lrd:matrix", ({detail}) => {
    matrix = detail;
    settle();
  });
  window.addEventListener("hashchange", () => location.hash.startsWith(START) && enter(location.hash, true));
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.(`a[href^="${START}"]`);
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault(); // the same link twice changes no address, and has to play again
    history.pushState(null, "", link.getAttribute("href"));
    enter(link.getAttribute("href"), true); // lays out the controls at once
    transport.focus(); // so that arrow keys go on from there
    here.scrollIntoView({block: "start", behavior: window.matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
  });
  await enter(location.hash, false);
};
