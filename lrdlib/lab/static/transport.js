/* Play, pause, and a slider over the recorded steps: makeTransport(move); move(step) is called for every step that it comes to. */

const FRAME = 90; // milliseconds from record to record while it plays
const TOUR = 2500; // a link plays to its step in at most so many

const makeTransport = (move) => {
  let steps = [0];
  let timer = null;
  let until = null;
  let alone = false; // it moves by itself, as the page opens
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
    alone = false;
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
    alone = false;
    if (Number(input.value) === steps.length - 1) to(0);
    play(steps.length - 1);
  };
  input.addEventListener("input", () => {
    if (timer) stop();
    to(Number(input.value));
  });
  const set = (next, step) => {
    stop(); // it would play to a place in the list of before
    steps = next;
    input.max = steps.length - 1;
    input.value = recordAt(steps, step);
    say();
  };
  const playTo = (step, fromStart, still) => {
    const target = recordAt(steps, step);
    if (fromStart || Number(input.value) > target) to(0);
    const count = target - Number(input.value);
    if (still || count < 1) return stop(), to(target);
    play(target, Math.min(FRAME, TOUR / count));
  };
  // Early in the run, and from there to its end, unless nothing is to move.
  const open = (part, still) => {
    alone = true;
    to(Math.floor(part * (steps.length - 1)));
    still ? stop() : play(steps.length - 1);
  };
  const node = element("div", {className: "lab-transport"}, button, element("label", {className: "lab-stops"}, element("span", {textContent: "training"}), input, output));
  return {node, set, stop, playTo, open, alone: () => alone, focus: () => input.focus({preventScroll: true}), jump: (step) => (stop(), to(recordAt(steps, step))), step: () => steps[input.value]};
};
