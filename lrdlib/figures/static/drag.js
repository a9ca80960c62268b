/* Pictures that are dragged: lrdlib/figures/drag.py leaves <div class="lrd-drag" data-kind=...> with a picture, drawn by
 * the library, and JSON: {panels: {name: {x, y, size, box}}, start, ...}. Here the same arithmetic is done again at every
 * move, and the lines that have names are drawn anew; the axes stay as they are.
 *
 * A point is moved with the mouse, a finger or the arrow keys. Nothing moves by itself.
 */
(() => {
  "use strict";

  const EPSILON = 2 ** -52;
  const STEP = 0.01; // what an arrow key moves by; with Shift, or Page up and down, ten times that

  // ---- arithmetic, of lrdlib.decay and lrdlib.polar on diagonal matrices

  // s = |W|_F / |polar(W)|_F, and which singular values count as zero, as lrdlib.polar has it
  const polar = (values) => {
    const noise = values.length * EPSILON * Math.max(...values.map(Math.abs));
    const signs = values.map((v) => (Math.abs(v) > noise ? Math.sign(v) : 0));
    const rank = signs.filter(Boolean).length;
    return {signs, scale: rank ? Math.hypot(...values) / Math.sqrt(rank) : 0};
  };

  const RULES = {
    l2: (values, t) => values.map((v) => (1 - t) * v),
    low_rank: (values, t, scaled) => {
      const {signs, scale} = polar(values);
      return values.map((v, i) => v - t * (scaled ? scale : 1) * signs[i]);
    },
    proximal: (values, t, scaled) => {
      const {scale} = polar(values);
      return values.map((v) => Math.sign(v) * Math.max(Math.abs(v) - t * (scaled ? scale : 1), 0));
    },
  };

  const decayed = (rule, values, t, steps, scaled) => {
    const path = [values];
    for (let k = 0; k < steps; k += 1) path.push(RULES[rule](path[k], t, scaled));
    return path;
  };

  const iterated = ([a, b, c], x, steps, far) => {
    const path = [x];
    while (path.length <= steps && Math.abs(path.at(-1)) <= far) {
      const square = path.at(-1) ** 2;
      path.push(path.at(-1) * (a + square * (b + square * c)));
    }
    return path;
  };

  const stableRank = (values) => {
    const squares = values.map((v) => v * v);
    const largest = Math.max(...squares);
    return largest ? squares.reduce((sum, v) => sum + v, 0) / largest : 0;
  };

  // ---- elements

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const clamp = (value, [low, high]) => Math.min(high, Math.max(low, value));
  const hundredths = (value) => Math.round(100 * value) / 100; // what is said is what is drawn
  const minus = (text) => text.replace("-", "−");
  const below = (k) => String(k).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
  const two = (value) => minus((Math.round(100 * value) === 0 ? 0 : value).toFixed(2));

  // A panel of the picture: places from numbers, numbers from places, and its named lines.
  const panelOf = (root, name, {x, y, size, box}) => {
    const stage = root.querySelector(`[data-panel="${name}"]`);
    const [width, height] = size;
    const [left, top, right, bottom] = box;
    const across = (value) => left + ((value - x[0]) / (x[1] - x[0])) * (width - left - right);
    const down = (value) => top + ((y[1] - value) / (y[1] - y[0])) * (height - top - bottom);
    const find = (selector) => stage.querySelector(selector);
    return {
      stage,
      at: ({clientX, clientY}) => {
        const frame = stage.getBoundingClientRect();
        const px = ((clientX - frame.left) / frame.width) * width;
        const py = ((clientY - frame.top) / frame.height) * height;
        return {
          x: x[0] + ((px - left) / (width - left - right)) * (x[1] - x[0]),
          y: y[1] - ((py - top) / (height - top - bottom)) * (y[1] - y[0]),
        };
      },
      line: (line, xs, ys) => {
        const points = xs.map((value, i) => `${across(value).toFixed(1)},${down(ys[i]).toFixed(1)}`);
        find(`[data-line="${line}"]`).setAttribute("points", points.join(" "));
        find(`[data-dots="${line}"]`)?.setAttribute("d", points.map((point) => `M${point}h0`).join(""));
      },
      colour: (line, colour) => find(`[data-line="${line}"]`).setAttribute("fill", colour),
      dot: (cx, cy) => {
        find("circle").setAttribute("cx", across(cx).toFixed(1));
        find("circle").setAttribute("cy", down(cy).toFixed(1));
      },
      place: (handle, cx, cy) => {
        handle.style.left = `${(100 * across(cx)) / width}%`;
        handle.style.top = `${(100 * down(cy)) / height}%`;
      },
    };
  };

  // A handle over a point of a panel: what is dragged, and what has the focus.
  const handleOf = (panel, label) => {
    const handle = element("div", {className: "handle", tabIndex: 0, role: "slider", ariaLabel: label});
    panel.stage.append(handle);
    return handle;
  };

  // Let a panel's handles be moved. nearest: the index of the handle that a press at {x, y} is for; move: (index, {x, y})
  // goes to a place; nudge: (index, dx, dy) moves by so much, and may be infinite.
  const draggable = (panel, handles, {nearest, move, nudge}) => {
    let held = null;
    let tapped = false;
    panel.stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const on = handles.indexOf(event.target);
      tapped = on < 0 && event.pointerType !== "mouse"; // a finger beside a handle may mean to scroll
      if (tapped) return;
      held = on < 0 ? nearest(panel.at(event)) : on;
      panel.stage.setPointerCapture(event.pointerId);
      panel.stage.classList.add("held");
      event.preventDefault();
      handles[held].focus({preventScroll: true});
      move(held, panel.at(event));
    });
    panel.stage.addEventListener("pointermove", (event) => {
      if (held !== null) move(held, panel.at(event));
    });
    const release = () => {
      held = null;
      panel.stage.classList.remove("held");
    };
    panel.stage.addEventListener("pointerup", release);
    panel.stage.addEventListener("pointercancel", release);
    panel.stage.addEventListener("click", (event) => {
      if (tapped) move(nearest(panel.at(event)), panel.at(event));
      tapped = false;
    });
    handles.forEach((handle, index) => {
      handle.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const by = STEP * (event.shiftKey ? 10 : 1);
        const moves = {
          ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowDown: [0, -by], ArrowUp: [0, by],
          PageDown: [0, -10 * STEP], PageUp: [0, 10 * STEP], Home: [-Infinity, 0], End: [Infinity, 0],
        };
        if (!(event.key in moves)) return;
        event.preventDefault();
        nudge(index, ...moves[event.key]);
      });
    });
  };

  const say = (handle, low, high, now, text) => {
    const values = {valuemin: low, valuemax: high, valuenow: now, valuetext: text};
    for (const [name, value] of Object.entries(values)) handle.setAttribute(`aria-${name}`, value);
  };

  const range = (name, [min, max], step, moved) => {
    const input = element("input", {type: "range", min, max, step});
    const output = element("output");
    input.addEventListener("input", () => moved(Number(input.value)));
    return {
      label: element("label", {}, element("span", {textContent: name}), input, output),
      show: (value, text) => {
        input.value = value;
        output.textContent = text;
        input.setAttribute("aria-valuetext", `${name} ${text}`);
      },
    };
  };

  const choices = (label, names, chosen) => {
    const buttons = Object.entries(names).map(([name, text]) => {
      const button = element("button", {type: "button", textContent: text});
      button.addEventListener("click", () => chosen(name));
      return [name, button];
    });
    const group = element("span", {className: "choices", role: "group", ariaLabel: label}, ...buttons.map(([, b]) => b));
    const show = (name) => buttons.forEach(([own, button]) => button.setAttribute("aria-pressed", String(own === name)));
    return {group, show};
  };

  // ---- the three pictures: each returns what to draw

  const UNIT = [0, 1];

  const plane = ({data, panels, controls, say: words, soon}) => {
    const state = {at: [...data.start], t: data.t};
    const handle = handleOf(panels.plane, "W = diag(σ₁, σ₂): arrow keys move it");
    const go = (x, y) => {
      state.at = [x, y].map((value) => hundredths(clamp(value, UNIT)));
      soon();
    };
    draggable(panels.plane, [handle], {
      nearest: () => 0,
      move: (_, {x, y}) => go(x, y),
      nudge: (_, dx, dy) => go(state.at[0] + dx, state.at[1] + dy),
    });
    const strength = range("t", data.strengths, 0.001, (t) => {
      state.t = t;
      soon();
    });
    controls.append(strength.label);
    const steps = Array.from({length: data.steps + 1}, (_, k) => k);
    return () => {
      const ends = [];
      for (const rule of Object.keys(RULES)) {
        const path = decayed(rule, state.at, state.t, data.steps, false);
        panels.plane.line(rule, ...[0, 1].map((i) => path.map((values) => values[i])));
        for (const i of [0, 1]) panels.steps.line(`${rule}-${i}`, steps, path.map((values) => values[i]));
        ends.push(`(${path.at(-1).map(two).join(", ")})`);
      }
      panels.plane.dot(...state.at);
      panels.plane.place(handle, ...state.at);
      const here = `σ₁ = ${two(state.at[0])}, σ₂ = ${two(state.at[1])}`;
      say(handle, 0, 1, state.at[0], here);
      strength.show(state.t, state.t.toFixed(3));
      words(`From ${here}, after ${data.steps} steps: L2 is at ${ends[0]}, low rank at ${ends[1]}, proximal at ${ends[2]}.`);
    };
  };

  const spectrum = ({data, panels, controls, say: words, soon}) => {
    const state = {values: [...data.start], steps: data.steps, rule: data.rule};
    const handles = state.values.map((_, i) => handleOf(panels.bars, `singular value ${i + 1}: arrow keys move it`));
    const go = (i, value) => {
      state.values[i] = hundredths(clamp(value, UNIT));
      soon();
    };
    draggable(panels.bars, handles, {
      nearest: ({x}) => clamp(Math.floor(x), [0, handles.length - 1]),
      move: (i, {y}) => go(i, y),
      nudge: (i, dx, dy) => go(i, state.values[i] + dx + dy),
    });
    const rules = choices("which decay", data.rules, (rule) => {
      state.rule = rule;
      soon();
    });
    const steps = range("steps", [0, 3 * data.steps], 1, (k) => {
      state.steps = k;
      soon();
    });
    controls.append(rules.group, steps.label);
    return () => {
      const after = decayed(state.rule, state.values, data.t, state.steps, true).at(-1);
      state.values.forEach((value, i) => {
        const bar = [i + 0.2, i + 0.2, i + 0.8, i + 0.8];
        panels.bars.line(`before-${i}`, bar, [0, value, value, 0]);
        panels.bars.line(`after-${i}`, bar, [0, after[i], after[i], 0]);
        panels.bars.line(`grip-${i}`, [i + 0.2, i + 0.8], [value, value]);
        panels.bars.colour(`after-${i}`, data.colours[state.rule]);
        panels.bars.place(handles[i], i + 0.5, value);
        say(handles[i], 0, 1, value, `σ${i + 1} = ${two(value)}, then ${two(after[i])}`);
      });
      rules.show(state.rule);
      steps.show(state.steps, String(state.steps));
      const loss = data.t * (state.rule === "l2" ? 1 : polar(state.values).scale);
      const first = state.rule === "l2" ? `${(100 * loss).toFixed(1)}% of each` : `${loss.toFixed(4)} from each`;
      words(`The first step takes ${first}. Stable rank ${stableRank(state.values).toFixed(1)} before, ${stableRank(after).toFixed(1)} after.`);
    };
  };

  const iterates = ({data, panels, controls, say: words, soon}) => {
    const state = {x: data.start, method: data.method};
    const [low, high] = data.panels.stairs.x;
    const handle = handleOf(panels.stairs, "x: arrow keys move it");
    const go = (x) => {
      state.x = hundredths(clamp(x, [low, high]));
      soon();
    };
    draggable(panels.stairs, [handle], {
      nearest: () => 0,
      move: (_, {x}) => go(x),
      nudge: (_, dx, dy) => go(state.x + dx + dy),
    });
    const methods = choices("which polynomial", data.methods, (method) => {
      state.method = method;
      soon();
    });
    controls.append(methods.group);
    const line = Array.from({length: 97}, (_, i) => low + ((high - low) * i) / 96);
    return () => {
      const p = data.polynomials[state.method];
      const path = iterated(p, state.x, data.steps, data.far);
      const corners = path.slice(1).flatMap((next, k) => [[path[k], k ? path[k] : 0], [path[k], next]]);
      panels.stairs.line("curve", line, line.map((x) => iterated(p, x, 1, data.far)[1]));
      panels.stairs.line("stairs", ...[0, 1].map((i) => corners.map((corner) => corner[i])));
      panels.steps.line("path", path.map((_, k) => k), path);
      panels.stairs.dot(state.x, 0);
      panels.stairs.place(handle, state.x, 0);
      say(handle, low, high, state.x, `x = ${two(state.x)}`);
      methods.show(state.method);
      const steps = path.length - 1;
      const end = Math.abs(path.at(-1)) > data.far
        ? `it leaves for infinity after ${steps} ${steps === 1 ? "step" : "steps"}`
        : [1, 5, steps].map((k) => `x${below(k)} = ${minus(path[k].toFixed(3))}`).join(", ");
      words(`From x${below(0)} = ${two(state.x)}: ${end}.`);
    };
  };

  const PICTURES = {plane, spectrum, iterates};

  const begin = (root) => {
    const data = JSON.parse(root.querySelector("script").textContent);
    const panels = Object.fromEntries(Object.entries(data.panels).map(([name, own]) => [name, panelOf(root, name, own)]));
    const said = root.querySelector(".said");
    let waiting = false;
    let show = () => {};
    const soon = () => { // many moves may come between two frames
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        show();
      });
    };
    const say = (text) => {
      said.textContent = text;
    };
    show = PICTURES[root.dataset.kind]({data, panels, controls: root.querySelector(".controls"), say, soon});
    show();
    root.dataset.drawn = "";
  };

  const all = () => document.querySelectorAll(".lrd-drag").forEach(begin);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", all) : all();
})();
