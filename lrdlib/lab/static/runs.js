/* Recorded runs by their row of the index, as panels.js wants them. load(name) is a promise of a piece. */

// What a network answers, digit by digit (lrdlib/lab/answers.py), as the table of panels.js, and what is asked of it.
const tableOfAnswers = ({down, across, steps, answers, sure, levels, labels, trained}) => {
  const rows = (text) => Array.from(text, (digit) => PLACES[digit.charCodeAt(0)]);
  const right = rows(labels);
  const given = answers.map(rows);
  const inside = rows(trained);
  const at = (row, step) => {
    const i = recordAt(steps, step);
    const share = PLACES[sure[i].charCodeAt(row)] / levels;
    return {answers: [{value: given[i][row], share}], label: right[row], trained: inside[row] === 1, step: steps[i]};
  };
  return {down, across, trained: inside, steps, hits: given.map((some) => some.map((value, row) => Number(value === right[row]))), at};
};

// The rule that acts in the run of a row, as panels.js names it.
const ruleOf = ({rule, amount, l2, variant, setting}) => {
  const l2_on = setting.split(",").includes("l2_on:selected") ? "selected" : "all";
  return actingRule({rule, weight_decay: amount, l2, l2_on, select: variant.split(",").includes("qk") ? "qk" : ""});
};

// An object (or a list) that reads each of its codes when it is first asked for: of six matrices one is shown.
const readOnDemand = (codes, read) => {
  const made = Array.isArray(codes) ? [] : {};
  const keep = (name, how) => Object.defineProperty(made, name, {enumerable: true, configurable: true, ...how});
  for (const [name, code] of Object.entries(codes))
    keep(name, {
      get: () => {
        const value = read(code);
        keep(name, {value});
        return value;
      },
    });
  return made;
};

const toRun = async (index, row, load) => {
  const data = await load(row.piece);
  const pattern = data.pattern ? await load(`${row.piece}.pattern`) : null;
  const answers = data.answers ? await load(`${row.piece}.answers`) : null;
  await rest(); // the last piece has been read in this task
  const curves = decodeEach(data.curves);
  await rest();
  return {
    name: nameOf(index, row),
    note: noteOf(index, row),
    rule: ruleOf(row),
    command: data.command,
    steps: data.steps,
    curves,
    bands: data.bands && {...data.bands, low: decodeEach(data.bands.low), high: decodeEach(data.bands.high)},
    spectra: readOnDemand(data.spectra, decodeRows),
    fourier: data.fourier && decodeRows(data.fourier),
    table: answers && tableOfAnswers(answers),
    pattern: pattern && {...pattern, values: readOnDemand(pattern.values, decode)},
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
