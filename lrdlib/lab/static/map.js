/* The phase diagram of one rule: a table of cells, strength up and fraction across, that leads to the runs.
 *
 * makeMap(index, rows, go, tell) -> {node, show(row)}: go(row) is called for a cell that is clicked or chosen by Enter or
 * Space, tell(words) for one without a run, which is empty; arrows move from cell to cell.
 */

const MEANINGS = {
  best: (unseen) => `best ${unseen} accuracy`,
  final: (unseen) => `last ${unseen} accuracy`,
  first: (_unseen, above) => `first step above ${percent(above)}`,
};

const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

// What a cell shows: the number, how full its colour is (0 to 1), and the words.
const cellOf = (found, meaning, unseen, above, last) => {
  if (!found.length) return {text: "", fill: null, said: "not recorded"};
  const known = found.map((row) => row[meaning]).filter((value) => value !== null);
  const value = mean(known);
  const seeds = found.length > 1 ? `, mean of ${found.length} seeds` : "";
  if (meaning === "first") {
    if (value === null) return {text: "–", fill: 0, said: `never above ${percent(above)}${found.length > 1 ? ` in ${found.length} seeds` : ""}`};
    const partly = known.length < found.length ? `, in ${known.length} of ${found.length} seeds` : seeds;
    return {text: String(Number((value / 100).toFixed(value < 1000 ? 1 : 0))), fill: 1 - (0.8 * value) / last, said: `first above ${percent(above)} at step ${Math.round(value)}${partly}`, good: true};
  }
  if (value === null) return {text: "×", fill: 0, said: "diverged"};
  return {text: String(Math.round(100 * value)), fill: value, said: `${meaning} ${unseen} accuracy ${percent(value)}${seeds}`, good: value > above};
};

const makeMap = (index, rows, go, tell) => {
  const meaning = element("select", {onchange: () => draw()});
  const offer = (unseen) => {
    const options = Object.entries(MEANINGS).map(([value, words]) => ({value, text: words(unseen, index.above)}));
    fill(meaning, options, meaning.value || "best");
  };
  const table = element("table", {className: "lab-map", role: "grid"});
  const node = element("div", {className: "lab-diagram"}, labelled("cells show", meaning), table);
  let now = null;
  let cells = []; // rows of {node, row | null}
  let focus = [0, 0];

  const move = (r, c) => {
    focus = [Math.min(Math.max(r, 0), cells.length - 1), Math.min(Math.max(c, 0), cells[0].length - 1)];
    cells.flat().forEach((cell) => (cell.node.tabIndex = -1));
    const {node: target} = cells[focus[0]][focus[1]];
    target.tabIndex = 0;
    return target;
  };

  const STEPS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -99], End: [0, 99]};
  table.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // Alt and an arrow lead back
    const step = STEPS[event.key];
    if (step) move(focus[0] + step[0], focus[1] + step[1]).focus();
    else if (event.key === "Enter" || event.key === " ") cells[focus[0]][focus[1]].go();
    else return;
    event.preventDefault();
  });

  const makeCell = (found, strength, fraction, last, place) => {
    const {text, fill: full, said, good} = cellOf(found, meaning.value, index.unseen[now.setting], index.above, last);
    const here = found.includes(now);
    const words = `λ = ${strengthWords(strength)}, ${percent(fraction)} of the pairs: ${said}`;
    const made = element("td", {
      role: "gridcell",
      textContent: text,
      title: words,
      className: ["lab-cell", full === null && "lab-empty", good && "lab-good", text.length > 2 && "lab-long", here && "lab-here"].filter(Boolean).join(" "),
      "aria-label": words + (here ? ", shown below" : ""),
      "aria-selected": String(here),
      tabIndex: -1,
    });
    if (full === null) made.setAttribute("aria-disabled", "true");
    else made.style.setProperty("--lab-fill", `${Math.round(65 * full)}%`);
    const cell = {node: made, go: () => (found.length ? go(nearest(found, now)) : tell(`${words}.`))};
    made.addEventListener("click", () => {
      move(...place);
      cell.go();
    });
    return cell;
  };

  const draw = () => {
    const held = table.contains(document.activeElement);
    const mine = rows.filter((row) => ["setting", "rule", "variant", "lr"].every((key) => row[key] === now[key]));
    const strengths = [...new Set(mine.map((row) => row.strength))].sort((a, b) => amountOf(b) - amountOf(a) || a.localeCompare(b));
    const fractions = [...new Set(mine.map((row) => row.fraction))].sort((a, b) => a - b);
    const last = Math.max(...mine.map((row) => row.steps));
    // one row for each seed, the first (finest) recording of it, or the one that is shown
    const at = (strength, fraction) => {
      const all = mine.filter((row) => row.strength === strength && row.fraction === fraction);
      return all.filter((row) => all.find((one) => one.number === row.number && (one === now || !all.some((other) => other === now && other.number === row.number))) === row);
    };
    cells = strengths.map((strength, r) => fractions.map((fraction, c) => makeCell(at(strength, fraction), strength, fraction, last, [r, c])));
    table.style.setProperty("--lab-head", `${2 + Math.max(4, ...strengths.map((strength) => strength.length))}ch`);
    const head = (scope, text) => element("th", {scope, textContent: text});
    const lines = strengths.map((strength, r) => element("tr", {}, head("row", strength.replace(",", " + ")), ...cells[r].map((cell) => cell.node)));
    const across = element("tr", {}, head("col", "λ ↑  f →"), ...fractions.map((fraction) => head("col", String(fraction).replace(/^0/, ""))));
    table.replaceChildren(element("tbody", {}, ...lines), element("tfoot", {}, across));
    table.setAttribute("aria-label", `Phase diagram of ${index.rules[now.rule]}: strength λ up, fraction f of the pairs across. Arrows move, Enter shows the run.`);
    const place = move(strengths.indexOf(now.strength), fractions.indexOf(now.fraction));
    if (held) place.focus();
  };

  const show = (row) => {
    if (row === now) return;
    if (row.setting !== now?.setting) offer(index.unseen[row.setting]);
    now = row;
    draw();
  };
  return {node, show};
};
