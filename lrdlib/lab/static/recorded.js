/* The recorded lab: choose a run, or two, and move through its training. Everything comes from pieces of data.
 *
 * makeRecorded(root, load): load(name) is a promise of a piece. What stands in root before may hold tours (tours.js).
 */

const MATRIX = "0.query"; // whose spectrum is shown first
const EARLY = 0.12; // the part of a run at which it opens
const RECORDED_CHARTS = ["accuracy", "rank", "spectrum", "fourier", "pattern", "table"];

const RECORDED_SHOWN = {run: null}; // for a lab below, which may lay it beside its own

// A rival for the run that is shown: L2 (for L2, LRD) at the same fraction, at its best strength.
const rivalOf = (rows, row) => {
  const others = rows.filter((one) => one.setting === row.setting && one.rule === (row.rule === "l2" ? "lrd" : "l2"));
  const near = others.filter((one) => one.fraction === row.fraction && one.lr === row.lr);
  const pool = near.length ? near : others.length ? others : rows;
  return pool.reduce((best, one) => ((one.best ?? 0) > (best.best ?? 0) ? one : best));
};

// A line of news, with a button where something can be tried again.
const makeSay = () => {
  const words = element("span", {role: "status"});
  const again = element("button", {type: "button", textContent: "Try again", hidden: true});
  const tell = (text, retry = null) => {
    words.textContent = text;
    again.hidden = !retry;
    again.onclick = retry;
  };
  return {node: element("p", {className: "lab-say"}, words, again), tell};
};

const stillMotion = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

const makeRecorded = async (root, load) => {
  const index = await load("index");
  await rest(); // it has been read in this task
  const rows = rowsOf(index);
  const runOf = makeRuns(index, load);
  const {node: say, tell} = makeSay();
  const source = element("p", {className: "lab-source"});
  const plots = element("div", {className: "lab-plots"});
  const panels = makePanels(plots, 2, RECORDED_CHARTS, ["table"]);
  let table = null; // what the first run answers, where that is recorded
  const ask = makeAsk(root, async (row) => table.at(row, transport.step()), (text) => tell(text));
  const chosenRows = [null, null]; // the second is null where nothing is compared
  let turn = 0;
  let matrix = MATRIX;
  let later = null;

  const address = () => writeAddress(chosenRows[0], chosenRows[1], transport.step(), matrix);
  const write = () => {
    clearTimeout(later);
    later = null;
    history.replaceState(history.state, "", address());
  };
  const settle = () => {
    clearTimeout(later); // browsers refuse an address that changes too often
    later = setTimeout(write, 200);
  };
  const transport = makeTransport((step) => {
    panels.at(step);
    ask.again();
    if (!transport.alone()) settle();
  });

  // again: what can be tried again where the data did not come.
  const show = async (said = "", again = () => show(said)) => {
    const mine = ++turn;
    const shown = chosenRows.filter(Boolean);
    shown.forEach((row, i) => sides[i].show(row));
    sides[1].node.hidden = shown.length < 2;
    sides[0].rename(shown.length < 2 ? "the run" : "first run");
    compare.setAttribute("aria-pressed", String(shown.length > 1));
    tell(said);
    plots.setAttribute("aria-busy", "true");
    let runs;
    try {
      runs = await Promise.all(shown.map(runOf));
    } catch (error) {
      if (mine !== turn) return false;
      plots.setAttribute("aria-busy", "false");
      tell(`The data of this run could not be loaded. ${error.message} `, again);
      return false;
    }
    if (mine !== turn) return false;
    const steps = [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
    transport.set(steps, transport.step());
    source.textContent = `Recorded: ${runs.map((run) => `${run.name} (${run.note})`).join("; against it, ")}. ${rows.length} runs can be shown here.`;
    const shows = panels.show({runs, step: transport.step(), matrix});
    if (runs[0].table !== table) ask.ready(null); // an answer of another network
    ask.ready((table = runs[0].table));
    RECORDED_SHOWN.run = runs[0];
    document.dispatchEvent(new CustomEvent("lrd:shown"));
    await shows;
    if (mine !== turn) return false;
    plots.setAttribute("aria-busy", "false");
    return true;
  };

  const go = (slot) => async (row) => {
    transport.stop();
    const before = chosenRows[slot];
    chosenRows[slot] = row;
    const moved = row.fraction !== before.fraction && row.strength !== before.strength ? "The nearest recorded run is shown." : "";
    await show(moved);
    settle();
  };
  const sides = [makeSide(index, rows, "the run", go(0), tell), makeSide(index, rows, "second run", go(1), tell)];

  const compare = element("button", {
    type: "button",
    textContent: "compare two runs",
    onclick: async () => {
      transport.stop();
      chosenRows[1] = chosenRows[1] ? null : rivalOf(rows, chosenRows[0]);
      await show();
      settle();
    },
  });
  const share = element("button", {
    type: "button",
    textContent: "copy a link to this view",
    onclick: async () => {
      write();
      try {
        await navigator.clipboard.writeText(location.href);
        tell("The link is copied.");
      } catch {
        tell("The link is in the address bar of the browser.");
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
    transport.stop();
    const said = lost.length ? `Not recorded: ${lost.join(", ")}. The nearest recorded run is shown.` : "";
    if (!(await show(said, () => enter(hash, play)))) return;
    if (asked.step === null && !play) transport.open(EARLY, stillMotion());
    else play ? transport.playTo(asked.step ?? transport.step(), fresh, stillMotion()) : transport.jump(asked.step);
    clearTimeout(later); // the address is what was asked for
  };
  // Back leads to what was left, so that is written down first.
  const follow = (hash) => {
    write();
    history.pushState(null, "", hash);
    return enter(hash, true); // lays out the controls at once
  };

  const here = element("div", {className: "lab-top-of-panels"}); // what is sticky cannot be scrolled to
  const tours = makeTours(root, follow);
  const tools = element("div", {className: "lab-tools"}, ...(tours ? [tours.choice] : []), compare, share);
  const left = element("div", {className: "lab-left lab-sides"}, ...sides.map(({node}) => node));
  const bar = element("div", {className: "lab-bar"}, sides[0].strength, transport.node);
  root.classList.add("lab-screen");
  root.replaceChildren(
    element("div", {className: "lab-top"}, element("div", {className: "lab-said"}, source, say), tools),
    ...(tours ? [tours.strip] : []),
    element("div", {className: "lab-body"}, left, element("div", {className: "lab-stage"}, here, bar, plots, ask.node)),
  );
  plots.addEventListener("lrd:step", ({detail}) => transport.jump(detail));
  plots.addEventListener("lrd:matrix", ({detail}) => {
    matrix = detail;
    settle();
  });
  for (const kind of ["pointerdown", "keydown"]) left.addEventListener(kind, transport.stop); // the hand goes before the play
  window.addEventListener("pagehide", () => later && write());
  window.addEventListener("hashchange", () => (location.hash.startsWith(START) || !location.hash) && enter(location.hash, false));
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.(`a[href^="${START}"]`);
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault(); // the same link twice changes no address, and has to play again
    const shown = follow(link.getAttribute("href"));
    if (root.querySelector(".lab-tour")?.contains(link)) return;
    transport.focus(); // so that arrow keys go on from there
    here.scrollIntoView({block: "start", behavior: stillMotion() ? "auto" : "smooth"});
    await shown;
  });
  await rest();
  await enter(location.hash, false);
};
