/* The controls that choose one run: task, rule, what lambda means, learning rate, lambda, fraction, seed; and its map.
 *
 * makeSide(index, rows, name, go, tell) -> {node, show(row), rename(name), strength}: go(row) is called for a choice,
 * tell(words) where there is none; strength is the control of λ, which may be put elsewhere. A control offers what is
 * recorded and nothing else; one without a choice is not there, or says its one value in words.
 */

let sides = 0; // radio buttons of one side share a name

const makeRules = (index, choose) => {
  const group = `lab-rule-${++sides}`;
  const radios = Object.entries(index.rules).map(([value, text]) => {
    const input = element("input", {type: "radio", name: group, value, onchange: () => choose("rule", value)});
    return {value, input, label: element("label", {}, input, element("span", {textContent: text}))};
  });
  const node = element("fieldset", {className: "lab-rules"}, element("legend", {textContent: "rule"}), ...radios.map(({label}) => label));
  const show = (rows, row) => {
    const open = optionsOf(rows, row, "rule");
    for (const {value, input, label} of radios) {
      input.checked = value === row.rule;
      label.hidden = !open.includes(value);
    }
  };
  return {node, show};
};

// A slider over the recorded values of one key.
const makeStops = (text, key, words, choose) => {
  let stops = [];
  const output = valueBeside();
  const input = element("input", {type: "range", min: 0, step: 1, oninput: () => choose(key, stops[input.value])});
  const note = element("small");
  const node = element("label", {className: "lab-stops"}, element("span", {textContent: text}), input, output, note);
  const show = (rows, row) => {
    stops = optionsOf(rows, row, key);
    input.max = stops.length - 1;
    input.value = stops.indexOf(row[key]);
    input.hidden = stops.length < 2;
    output.textContent = words(row[key]);
    input.setAttribute("aria-valuetext", words(row[key]));
    note.textContent = stops.length < 2 ? "the only one recorded" : "";
  };
  return {node, show};
};

const TEXTS = {
  variant: (index, value) => index.variants[value],
  lr: (_index, value) => String(value),
  seed: (_index, value) => `${amountOf(value)} (every ${value.split("/")[1]} steps)`,
};

const makeChoice = (index, text, key, choose) => {
  const select = element("select", {onchange: () => choose(key, key === "lr" ? Number(select.value) : select.value)});
  const node = labelled(text, select);
  const show = (rows, row) => {
    const values = optionsOf(rows, row, key).filter((value) => value !== "");
    node.hidden = values.length < 2; // no choice; the line above the lab says the value
    fill(select, values.map((value) => ({value, text: TEXTS[key](index, value)})), row[key]);
  };
  return {node, show};
};

const makeTask = (index, choose) => {
  const select = element("select", {onchange: () => choose("setting", select.value)});
  const options = Object.entries(index.settings).map(([value, text]) => ({value, text}));
  fill(select, options, options[0].value);
  const node = labelled("task", select);
  node.hidden = options.length < 2;
  return {node, show: (_rows, row) => (select.value = row.setting)};
};

const makeSide = (index, rows, name, go, tell) => {
  let now = null;
  let wish = null; // what the reader has asked for, key by key: a key that had to move comes back when it can
  let own = null; // the row that a choice has led to
  const choose = (key, value) => {
    wish[key] = value;
    own = chosen(rows, now, key, value, wish);
    go(own);
  };
  const strength = makeStops("λ", "strength", strengthWords, choose);
  const controls = [
    makeTask(index, choose),
    makeRules(index, choose),
    strength,
    makeStops("fraction", "fraction", (value) => `${percent(value)} of the pairs`, choose),
    makeChoice(index, "λ counts", "variant", choose),
    makeChoice(index, "learning rate", "lr", choose),
    makeChoice(index, "seed", "seed", choose),
  ];
  const map = makeMap(index, rows, go, tell);
  const legend = element("legend", {textContent: name});
  const fields = element("div", {className: "lab-fields"}, ...controls.map(({node}) => node)); // whoever wants λ elsewhere takes it
  const node = element("fieldset", {className: "lab-side"}, legend, fields, map.node);
  const show = (row) => {
    if (row !== own) wish = {...row};
    now = row;
    controls.forEach((control) => control.show(rows, row));
    map.show(row);
  };
  const rename = (text) => (legend.textContent = text);
  return {node, show, rename, strength: strength.node};
};
