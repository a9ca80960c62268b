/* The book's first picture: lrdlib/figures/opening.py leaves <div class="lrd-opening"> with a still picture and, as
 * JSON, {steps, rule, at, rules: [{name, colour, runs: [{strength, seen, unseen, rank, bars}]}]}.
 *
 * Two panels: the singular values of one matrix, and accuracy by step. Below them the strength, the step, the rule, and
 * play. It plays once by itself when it is first seen, unless the reader prefers less motion; then the end stands there.
 * Between two records everything is drawn on straight lines, as the curves are.
 */
(() => {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");
  const SECONDS = 5; // for a whole run
  const WIDE = 400;
  const HIGH = window.matchMedia("(max-width: 600px)").matches ? 125 : 190; // one below the other on a phone
  const ROOM = {left: 38, right: 8, top: 8, bottom: 20}; // around a plot

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const shape = (tag, attributes = {}, text = "") => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  };

  const left = ROOM.left;
  const right = WIDE - ROOM.right;
  const top = ROOM.top;
  const bottom = HIGH - ROOM.bottom;
  const up = (share) => bottom - (bottom - top) * share; // a share of 1 is at the top

  const panel = (title, ...inside) => {
    const grid = [0, 0.5, 1].map((share) => shape("path", {class: "grid", d: `M${left} ${up(share)}H${right}`}));
    const ticks = [0, 0.5, 1].map((share) =>
      shape("text", {x: left - 6, y: up(share) + 4, "text-anchor": "end"}, `${100 * share}%`),
    );
    const svg = shape("svg", {viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img"});
    svg.append(...grid, ...ticks, ...inside);
    const figure = element("figure", {}, element("figcaption", {innerHTML: title}), svg);
    return {figure, svg};
  };

  const draw = (root) => {
    const data = JSON.parse(root.querySelector("script").textContent);
    const {steps, rules} = data;
    const last = steps.length - 1;
    const state = {rule: data.rule, at: data.at, place: STILL.matches ? last : 0, playing: false};
    const run = () => rules[state.rule].runs[state.at];

    // a number at a place between two records
    const between = (list) => {
      const i = Math.min(Math.floor(state.place), last - 1);
      return list[i] + (list[i + 1] - list[i]) * (state.place - i);
    };
    const stepNow = () => between(steps);

    // ---- the two panels
    const bars = shape("path", {class: "bars"});
    const spectrum = panel("Singular values of one query matrix", bars);
    const lines = Object.fromEntries(["seen", "unseen"].map((name) => [name, shape("polyline", {class: name})]));
    const dots = Object.fromEntries(["seen", "unseen"].map((name) => [name, shape("circle", {class: name, r: 4.5})]));
    const cursor = shape("path", {class: "cursor"});
    const x = (step) => left + ((right - left) * step) / steps[last];
    const ends = [0, steps[last]].map((step, i) =>
      shape("text", {x: x(step), y: HIGH - 4, "text-anchor": i ? "end" : "start"}, i ? `step ${step}` : "0"),
    );
    const accuracy = panel(
      'Right: <b class="seen">trained pairs</b>, <b class="unseen">unseen pairs</b>',
      ...ends, cursor, ...Object.values(lines), ...Object.values(dots),
    );

    const curve = (list, upTo) => {
      const points = [];
      for (let i = 0; i <= Math.min(Math.floor(upTo), last); i += 1) points.push(`${x(steps[i])},${up(list[i] / 1000)}`);
      points.push(`${x(stepNow())},${up(between(list) / 1000)}`);
      return points.join(" ");
    };

    // ---- the controls
    const range = (name, max, moved) => {
      const input = element("input", {type: "range", min: 0, max, step: 1});
      const output = element("output");
      input.addEventListener("input", moved);
      return {input, output, label: element("label", {}, element("span", {textContent: name}), input, output)};
    };
    const strength = range("λ", rules[state.rule].runs.length - 1, () => {
      state.at = Number(strength.input.value);
      show();
    });
    const step = range("step", last, () => {
      stop();
      state.place = Number(step.input.value);
      show();
    });
    const play = element("button", {type: "button", className: "play"});
    const choices = rules.map(({name}, index) => {
      const button = element("button", {type: "button", textContent: name});
      button.addEventListener("click", () => {
        state.rule = index;
        state.at = Math.min(state.at, rules[index].runs.length - 1);
        strength.input.max = rules[index].runs.length - 1;
        show();
      });
      return button;
    });
    const said = element("p", {className: "said"});

    const words = () => {
      const {seen, unseen, rank} = run();
      const part = (list) => `${Math.round(between(list) / 10)}%`;
      return `Step ${Math.round(stepNow())}: ${part(seen)} of trained and ${part(unseen)} of unseen pairs right; mean stable rank ${(between(rank) / 10).toFixed(1)}.`;
    };

    const show = () => {
      const {bars: rows, seen, unseen, strength: value} = run();
      const i = Math.min(Math.floor(state.place), last - 1);
      const part = state.place - i;
      const width = (right - left) / rows[0].length;
      let d = "";
      for (let k = 0; k < rows[0].length; k += 1) {
        const h = rows[i][k] + (rows[i + 1][k] - rows[i][k]) * part;
        d += `M${(left + k * width + 1).toFixed(1)} ${bottom}V${up(h / 1000).toFixed(1)}h${(width - 2).toFixed(1)}V${bottom}z`;
      }
      bars.setAttribute("d", d);
      bars.setAttribute("fill", rules[state.rule].colour);
      for (const [name, list] of Object.entries({seen, unseen})) {
        lines[name].setAttribute("points", curve(list, state.place));
        dots[name].setAttribute("cx", x(stepNow()));
        dots[name].setAttribute("cy", up(between(list) / 1000));
      }
      cursor.setAttribute("d", `M${x(stepNow())} ${top}V${bottom}`);
      strength.input.value = state.at;
      strength.output.textContent = `${value} a step`;
      strength.input.setAttribute("aria-valuetext", `${value} a step`);
      step.input.value = Math.round(state.place);
      step.output.textContent = Math.round(stepNow());
      step.input.setAttribute("aria-valuetext", `step ${Math.round(stepNow())}`);
      choices.forEach((button, index) => button.setAttribute("aria-pressed", String(index === state.rule)));
      play.textContent = state.playing ? "❚❚" : "▶";
      play.ariaLabel = state.playing ? "pause" : "play";
      const text = words();
      if (said.textContent !== text) said.textContent = text;
      if (state.playing) return; // who listens is told when it stands
      spectrum.svg.setAttribute("aria-label", `Singular values by size. ${text}`);
      accuracy.svg.setAttribute("aria-label", `Accuracy by step. ${text}`);
    };

    // ---- playing
    let before = null;
    const tick = (now) => {
      if (!state.playing) return;
      if (before !== null) state.place = Math.min(last, state.place + ((now - before) / 1000 / SECONDS) * last);
      before = now;
      if (state.place === last) state.playing = false;
      show();
      if (state.playing) requestAnimationFrame(tick);
    };
    const stop = () => {
      state.playing = false;
      before = null;
    };
    const start = () => {
      if (state.place === last) state.place = 0;
      before = null;
      state.playing = true;
      requestAnimationFrame(tick);
    };
    play.addEventListener("click", () => {
      state.playing ? stop() : start();
      show();
    });

    // a finger or the mouse on the curves moves the step
    const follow = ({clientX}) => {
      const box = accuracy.svg.getBoundingClientRect();
      const share = (((clientX - box.left) / box.width) * WIDE - left) / (right - left);
      stop();
      state.place = last * Math.min(1, Math.max(0, share));
      show();
    };
    let down = null; // where a finger came down: it may mean to scroll, until it goes sideways
    accuracy.svg.addEventListener("pointerdown", (event) => {
      down = event.pointerType === "mouse" ? null : event;
      if (down) return;
      accuracy.svg.setPointerCapture(event.pointerId);
      follow(event);
    });
    accuracy.svg.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      const [across, along] = down ? [event.clientX - down.clientX, event.clientY - down.clientY].map(Math.abs) : [Infinity, 0];
      if (across <= Math.max(along, 6)) return; // CSS pixels that no finger which lies still moves
      down = null;
      follow(event);
    });
    accuracy.svg.addEventListener("pointercancel", () => (down = null));
    accuracy.svg.addEventListener("click", (event) => {
      if (down) follow(event);
      down = null;
    });

    root.replaceChildren(
      element("div", {className: "panels"}, spectrum.figure, accuracy.figure),
      element(
        "div", {className: "controls"}, play, strength.label, step.label,
        element("span", {className: "choices", role: "group", ariaLabel: "which decay"}, ...choices),
      ),
      said,
    );
    root.dataset.drawn = "";
    show();
    if (STILL.matches) return;
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some(({isIntersecting}) => isIntersecting)) return;
      seen.disconnect();
      start();
    });
    seen.observe(root);
  };

  const begin = () => document.querySelectorAll(".lrd-opening").forEach(draw);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", begin) : begin();
})();
