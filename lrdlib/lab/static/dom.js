/* What every fragment of the lab uses: elements, labelled controls, numbers in words. */

const element = (tag, properties = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties))
    // aria-*, role and data-* are attributes; all else is the element's own property
    name.includes("-") || name === "role" ? made.setAttribute(name, value) : (made[name] = value);
  made.append(...children.filter((child) => child != null));
  return made;
};

const labelled = (text, control) => element("label", {className: "lab-field"}, element("span", {textContent: text}), control);

// A slider's value in letters. Those who listen hear aria-valuetext; an <output> would be read out with every change.
const valueBeside = () => element("span", {className: "lab-value", "aria-hidden": "true"});

const fill = (select, options, value) => {
  select.replaceChildren(
    ...options.map(({value: own, text}) => element("option", {value: own, textContent: text})),
  );
  select.value = value;
};

const COLOURS = {pink: "#e8329a", grey: "#797979", pale: "#949494"}; // of no rule, but that grey is also that of none

const percent = (value) => (value == null || Number.isNaN(value) ? "none" : `${Number((100 * value).toFixed(1))}%`);
const short = (value) => (value == null || Number.isNaN(value) ? "none" : String(Number(value.toPrecision(3))));

// Long work in parts, so that the page answers in between: rest() is a promise that is kept in another task.
const rest = () => new Promise((resolve) => setTimeout(resolve));
const PART = 10; // milliseconds of work after which a part may end

// The last record that is not after `step`.
const recordAt = (steps, step) => {
  let at = 0;
  while (at + 1 < steps.length && steps[at + 1] <= step) at += 1;
  return at;
};
