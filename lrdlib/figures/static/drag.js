/* Pictures that are dragged: lrdlib/figures/drag.py, directions.py and cylinder.py leave <div class="lrd-drag" data-kind=...> with a picture, drawn by
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

  // one part of a low-rank step with the adaptive scale, as lrdlib.decay has it: radial a W, or the rest
  const parted = (part, values, t, steps, held) => {
    const path = [values];
    const first = Math.hypot(...values);
    for (let k = 0; k < steps; k += 1) {
      const W = path[k];
      const {signs, scale} = polar(W);
      const square = W.reduce((sum, v) => sum + v * v, 0);
      const along = square ? (scale * W.reduce((sum, v) => sum + Math.abs(v), 0)) / square : 0;
      const radial = part === "tangential" ? 0 : along;
      const across = part === "radial" ? 0 : 1;
      const next = W.map((v, i) => v - t * (across * (scale * signs[i] - along * v) + radial * v));
      const norm = Math.hypot(...next);
      path.push(held && norm ? next.map((v) => (v * first) / norm) : next);
    }
    return path;
  };

  const radians = (degrees) => (degrees * Math.PI) / 180;

  // L = 1 - exp(sharp (cos(x - at) - 1)) and its slope per radian
  const hollow = (degrees, {at, sharp}) => {
    const x = radians(degrees - at);
    const depth = Math.exp(sharp * (Math.cos(x) - 1));
    return {loss: 1 - depth, slope: sharp * Math.sin(x) * depth};
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

  // from one number to another, both with
  const between = (low, high, count) => Array.from({length: count}, (_, i) => low + ((high - low) * i) / (count - 1));
  const TURN = between(0, 2 * Math.PI, 97);

  // The corners of an arrow in one line: shaft, and two barbs.
  const arrow = (x, y, dx, dy) => {
    const barb = Math.min(0.35, 0.07 / Math.max(Math.hypot(dx, dy), 1e-9));
    const [left, right] = [0.6, -0.6].map((side) => [x + dx - barb * (dx - side * dy), y + dy - barb * (dy + side * dx)]);
    return [[x, x + dx, left[0], x + dx, right[0]], [y, y + dy, left[1], y + dy, right[1]]];
  };

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

  // ---- the pictures: each returns what to draw

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

  // ---- those of directions.py

  const arrows = ({data, panels, controls, say: words, soon}) => {
    const state = {length: data.length, angle: data.direction, decay: data.decay};
    const handle = handleOf(panels.weights, "W: left and right turn it, up and down change its length");
    const go = (length, angle) => {
      state.length = hundredths(clamp(length, data.lengths));
      state.angle = Math.round(angle > 180 ? angle - 360 : angle < -180 ? angle + 360 : angle);
      soon();
    };
    draggable(panels.weights, [handle], {
      nearest: () => 0,
      move: (_, at) => go(Math.hypot(at.x, at.y), (Math.atan2(at.y, at.x) * 180) / Math.PI),
      nudge: (_, dx, dy) => go(state.length + dy, Number.isFinite(dx) ? state.angle + 100 * dx : state.angle),
    });
    const decay = range("λ", data.decays, 0.05, (value) => {
      state.decay = value;
      soon();
    });
    controls.append(decay.label);
    const gradient = (degrees) => {
      const [e, f] = [Math.cos(radians(degrees)), Math.sin(radians(degrees))];
      const across = (-data.drawn * hollow(degrees, data.hollow).slope) / state.length;
      return arrow(state.length * e, state.length * f, -across * f, across * e);
    };
    return () => {
      const {length, angle} = state;
      const e = [Math.cos(radians(angle)), Math.sin(radians(angle))];
      const at = e.map((v) => length * v);
      const {loss, slope} = hollow(angle, data.hollow);
      panels.weights.line("circle", TURN.map((v) => length * Math.cos(v)), TURN.map((v) => length * Math.sin(v)));
      panels.weights.line("ray", [0, 2 * e[0]], [0, 2 * e[1]]);
      for (let i = 0; i < data.ring; i += 1) panels.weights.line(`ring-${i}`, ...gradient((360 * i) / data.ring));
      panels.weights.line("decay", ...arrow(...at, ...at.map((v) => -data.drawn * state.decay * v)));
      panels.weights.line("gradient", ...gradient(angle));
      panels.weights.line("theta", [e[0]], [e[1]]);
      panels.weights.dot(...at);
      panels.weights.place(handle, ...at);
      panels.seen.line("here", [angle, angle], [-0.1, 1.1]);
      panels.seen.dot(angle, loss);
      const here = `length ${two(length)}, direction ${minus(String(angle))}°`;
      say(handle, ...data.lengths, length, here);
      decay.show(state.decay, two(state.decay));
      const size = Math.abs(slope) / length;
      words(`W has ${here}: the loss is ${two(loss)}. The gradient is ${two(size)} long and turns W at a rate of ` +
        `${two(size / length)}. The decay is ${two(state.decay * length)} long and turns it at a rate of 0.`);
    };
  };

  const parts = ({data, panels, controls, say: words, soon}) => {
    const state = {at: [...data.start], t: data.t, part: data.part, held: "free"};
    const handle = handleOf(panels.plane, "W = diag(σ₁, σ₂): arrow keys move it");
    const set = (name) => (value) => {
      state[name] = value;
      soon();
    };
    const go = (x, y) => set("at")([x, y].map((value) => hundredths(clamp(value, UNIT))));
    draggable(panels.plane, [handle], {
      nearest: () => 0,
      move: (_, {x, y}) => go(x, y),
      nudge: (_, dx, dy) => go(state.at[0] + dx, state.at[1] + dy),
    });
    const part = choices("which part is taken", data.parts, set("part"));
    const holds = choices("what is done to the norm", data.holds, set("held"));
    const strength = range("t", data.strengths, 0.001, set("t"));
    controls.append(part.group, holds.group, strength.label);
    const steps = Array.from({length: data.steps + 1}, (_, k) => k);
    return () => {
      const {at, t} = state;
      const path = parted(state.part, at, t, data.steps, state.held === "held");
      const rho = Math.hypot(...at);
      panels.plane.line("sphere", TURN.map((v) => rho * Math.cos(v)), TURN.map((v) => rho * Math.sin(v)));
      panels.plane.line("path", ...[0, 1].map((i) => path.map((values) => values[i])));
      for (const name of Object.keys(data.parts)) {
        const end = parted(name, at, 1, 1, false)[1];
        panels.plane.line(name, ...arrow(...at, ...end.map((v, i) => data.half * (v - at[i]))));
      }
      panels.plane.dot(...at);
      panels.plane.place(handle, ...at);
      const norms = path.map((values) => Math.hypot(...values) / (rho || 1));
      const ratios = path.map((values) => {
        const [small, large] = values.map(Math.abs).sort((a, b) => a - b);
        return large ? small / large : 0;
      });
      panels.steps.line("norm", steps, norms);
      panels.steps.line("ratio", steps, ratios);
      const here = `σ₁ = ${two(at[0])}, σ₂ = ${two(at[1])}`;
      say(handle, 0, 1, at[0], here);
      part.show(state.part);
      holds.show(state.held);
      strength.show(t, t.toFixed(3));
      const {scale} = polar(at);
      const a = rho ? (scale * (at[0] + at[1])) / rho ** 2 : 0;
      words(`From ${here}: a = ${two(a)}, so ${Math.round(100 * a * a)}% of the step's squared length is radial. ` +
        `After ${data.steps} steps, ${data.parts[state.part]}, ${data.holds[state.held]}: ` +
        `norm times ${two(norms.at(-1))}, σ₂ / σ₁ from ${two(ratios[0])} to ${two(ratios.at(-1))}.`);
    };
  };

  const wells = ({data, panels, controls, say: words, soon}) => {
    const state = {angle: data.start, pressure: data.pressure};
    const handle = handleOf(panels.arc, "direction: arrow keys move it along the arc");
    const go = (angle) => {
      state.angle = Math.round(clamp(angle, data.arc));
      soon();
    };
    const over = handleOf(panels.potential, "");
    over.setAttribute("aria-hidden", "true"); // the same point once more, for a hand
    over.tabIndex = -1;
    const keys = (_, dx, dy) => go(state.angle + 100 * (dx + dy));
    draggable(panels.arc, [handle], {
      nearest: () => 0,
      move: (_, {x, y}) => go((Math.atan2(y, x) * 180) / Math.PI),
      nudge: keys,
    });
    draggable(panels.potential, [over], {nearest: () => 0, move: (_, {x}) => go(x), nudge: keys});
    const pressure = range("λρ²", data.pressures, 0.05, (value) => {
      state.pressure = value;
      soon();
    });
    controls.append(pressure.label);
    const line = between(...data.arc, data.arc[1] - data.arc[0] + 1);
    const potential = (degrees, strength) => {
      const x = radians(degrees);
      return hollow(degrees, data.hollow).loss + (strength * (Math.abs(Math.cos(x)) + Math.abs(Math.sin(x)) - 1)) / Math.SQRT2;
    };
    const round = (degrees, radius) => ["cos", "sin"].map((f) => degrees.map((x, i) => radius(i) * Math[f](radians(x))));
    return () => {
      const heights = line.map((x) => potential(x, state.pressure));
      const height = (x) => heights[x - data.arc[0]] ?? Infinity;
      const low = line.filter((x) => height(x) <= height(x - 1) && height(x) <= height(x + 1) && x > data.arc[0] && x < data.arc[1]);
      let end = state.angle;
      const down = () => [end - 1, end, end + 1].reduce((best, x) => (height(x) < height(best) ? x : best), end - 1);
      while (down() !== end) end = down();
      const way = between(state.angle, end, 31);
      panels.arc.line("over", ...round(line, (i) => 1.05 + data.height * heights[i]));
      panels.arc.line("slide", ...round(way, () => 1));
      const [[x], [y]] = round([state.angle], () => 1);
      panels.arc.dot(x, y);
      panels.arc.place(handle, x, y);
      panels.potential.line("sum", line, heights);
      panels.potential.line("descent", way, way.map((x) => potential(x, state.pressure)));
      panels.potential.dot(state.angle, height(state.angle));
      panels.potential.place(over, state.angle, height(state.angle));
      const named = (x) => `${minus(String(x))}°, rank ${x % 90 ? "two" : "one"}`;
      say(handle, ...data.arc, state.angle, `${minus(String(state.angle))}°, comes to rest at ${named(end)}`);
      pressure.show(state.pressure, two(state.pressure));
      words(`From ${minus(String(state.angle))}° it goes down to ${named(end)}. Wells: ${low.map(named).join("; ")}. The loss alone has its own at ${data.hollow.at}°.`);
    };
  };

  const corners = ({data, panels, say: words, soon}) => {
    const state = {at: [...data.start]};
    const handle = handleOf(panels.plane, "where you pull from: arrow keys move it");
    const go = (x, y) => {
      state.at = [x, y].map((value) => hundredths(clamp(value, [-data.reach, data.reach])));
      soon();
    };
    draggable(panels.plane, [handle], {
      nearest: () => 0,
      move: (_, {x, y}) => go(x, y),
      nudge: (_, dx, dy) => go(state.at[0] + dx, state.at[1] + dy),
    });
    return () => {
      const sizes = state.at.map(Math.abs);
      const length = Math.max(Math.hypot(...sizes), 1);
      const disc = state.at.map((v) => v / length);
      const shift = Math.max(0, (sizes[0] + sizes[1] - 1) / 2, Math.max(...sizes) - 1);
      const square = state.at.map((v) => Math.sign(v) * Math.max(Math.abs(v) - shift, 0));
      for (const [name, point] of [["to-disc", disc], ["to-square", square]]) {
        panels.plane.line(name, ...[0, 1].map((i) => [state.at[i], point[i]]));
      }
      panels.plane.dot(...state.at);
      panels.plane.place(handle, ...state.at);
      const at = (point) => `(${point.map(two).join(", ")})`;
      say(handle, -data.reach, data.reach, state.at[0], at(state.at));
      const corner = square.includes(0) && sizes[0] + sizes[1] >= 1 ? ", a corner" : "";
      words(`You pull from ${at(state.at)}. The disc answers with ${at(disc)}, the square with ${at(square)}${corner}.`);
    };
  };

  // ---- that of cylinder.py

  const cylinder = ({data, panels, controls, say: words, soon}) => {
    const HALF = Math.SQRT1_2;
    const RIM = 0.025; // a hand that comes so near to a rim is on it
    const [low, high] = data.seconds;
    const [azimuth, height] = [data.view.azimuth, radians(data.view.height)];
    const state = {second: data.start[0], angle: data.start[1]};
    const handle = handleOf(panels.space, "W: up and down move it over top and side, left and right turn it");
    const other = handleOf(panels.cut, "");
    other.setAttribute("aria-hidden", "true"); // the same point once more, for a hand
    other.tabIndex = -1;
    const go = (second, angle) => {
      state.second = hundredths(clamp(second, data.seconds)) || 0; // not -0
      state.angle = Math.round(angle - 360 * Math.round(angle / 360));
      soon();
    };
    const caught = (second) => [0, low].find((rim) => Math.abs(second - rim) < RIM) ?? second;
    // where a place of the section belongs: on top, or on the side
    const secondAt = (out, z) => (z > out ? (1 - Math.SQRT2 * Math.max(out, 0)) / 2 : clamp((Math.SQRT2 * z - 1) / 2, [low, 0]));
    const nudge = (_, dx, dy) => (Number.isFinite(dx) ? go(state.second + dy, state.angle + 100 * dx) : go(dx < 0 ? low : high, state.angle));
    draggable(panels.space, [handle], {
      nearest: () => 0,
      move: (_, {x: right, y: up}) => {
        const toward = (HALF * Math.cos(height) - up) / Math.sin(height); // if it is on top
        const turned = (ahead) => azimuth + (Math.atan2(right, ahead) * 180) / Math.PI;
        if (Math.hypot(right, toward) <= HALF) return go(caught(secondAt(Math.hypot(right, toward), HALF)), turned(toward));
        if (toward < 0) return go(0, turned(toward)); // beyond it
        const across = clamp(right, [-HALF, HALF]);
        const ahead = Math.sqrt(HALF ** 2 - across ** 2);
        const z = Math.min(HALF, (up + Math.sin(height) * ahead) / Math.cos(height));
        go(caught(secondAt(HALF, z)), azimuth + (Math.atan2(across, ahead) * 180) / Math.PI);
      },
      nudge,
    });
    draggable(panels.cut, [other], {nearest: () => 0, move: (_, {x, y}) => go(caught(secondAt(x, y)), state.angle), nudge});

    const slopes = (second) => {
      const [up, out, down] = [[0, Math.SQRT2], [Math.SQRT2, 0], [0, -Math.SQRT2]];
      const [first, last] = [second >= 0 ? up : out, second > 0 ? up : second === low ? down : out];
      return between(0, 1, data.slopes).map((share) => first.map((v, i) => (1 - share) * v + share * last[i]));
    };
    const seen = (out, z) => {
      const [ahead, right] = [Math.cos, Math.sin].map((f) => out * f(radians(state.angle - azimuth)));
      return [right, z * Math.cos(height) - Math.sin(height) * ahead];
    };
    const named = (second) => (second === 0 || second === low ? "rank one" : "rank two");
    return () => {
      const {second, angle} = state;
      const first = 1 - Math.abs(second);
      const [out, z] = [(first - second) * HALF, (first + second) * HALF];
      const dot = seen(out, z);
      slopes(second).forEach((slope, i) => {
        const [dx, dz] = slope.map((v) => data.drawn * v);
        const tip = seen(out + dx, z + dz);
        panels.space.line(`seen-${i}`, ...arrow(...dot, tip[0] - dot[0], tip[1] - dot[1]));
        panels.cut.line(`slope-${i}`, ...arrow(out, z, dx, dz));
      });
      const way = [[0, HALF], [HALF, HALF], [HALF, -HALF], [0, -HALF]].map((place) => seen(...place));
      panels.space.line("way", ...[0, 1].map((i) => way.map((place) => place[i])));
      panels.space.dot(...dot);
      panels.space.place(handle, ...dot);
      panels.cut.dot(out, z);
      panels.cut.place(other, out, z);
      say(handle, low, high, second, `λ₂ = ${two(second)}, turned by ${minus(String(angle))}°, ${named(second)}`);
      const says = second === 0 ? "any between I and a reflection" : second === low ? "any between a reflection and −I" : second > 0 ? "one, I" : "one, a reflection";
      words(`W has the eigenvalues ${two(first)} and ${two(second)}: ${named(second)}. Its slopes: ${says}.`);
    };
  };

  const PICTURES = {plane, spectrum, iterates, arrows, parts, wells, corners, cylinder};

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
