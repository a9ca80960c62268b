/* The clock of modular addition: lrdlib/figures/clock.py leaves <div class="lrd-clock"> with a picture and JSON:
 * {a, b, p, keys, lengths, numbers, middle, box, size}. Here the same arithmetic is done again at every move.
 *
 * A hand is moved with the mouse, a finger or the arrow keys. Nothing moves by itself.
 */
(() => {
  "use strict";

  const HANDS = ["a", "b"];

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const choices = (label, names, chosen) => {
    const buttons = names.map(([value, text]) => {
      const button = element("button", {type: "button", textContent: text});
      button.addEventListener("click", () => chosen(value));
      return [value, button];
    });
    const group = element("span", {className: "choices", role: "group", ariaLabel: label}, ...buttons.map(([, b]) => b));
    const show = (value) => buttons.forEach(([own, button]) => button.setAttribute("aria-pressed", String(own === value)));
    return {group, show};
  };

  // the mean of cos(2 pi k (s - c) / p) over the frequencies, for every answer c
  const logitsOf = (s, keys, p) => Array.from({length: p}, (_, c) =>
    keys.reduce((sum, k) => sum + Math.cos((2 * Math.PI * k * (s - c)) / p), 0) / keys.length);

  const begin = (root) => {
    const {a, b, p, keys, lengths, numbers, middle, box, size} = JSON.parse(root.querySelector("script").textContent);
    const stage = root.querySelector(".stage");
    const state = {a, b, k: keys[0], all: false};
    const wrap = (value) => ((value % p) + p) % p;
    const markOf = (number) => wrap(number * state.k);
    const numberAt = (mark) => Array.from({length: p}, (_, n) => n).find((n) => markOf(n) === mark);
    const at = (mark, radius) => {
      const angle = (2 * Math.PI * mark) / p;
      return [middle + radius * Math.sin(angle), middle - radius * Math.cos(angle)];
    };
    const one = (value) => value.toFixed(1);

    // one frame may see many moves
    let waiting = false;
    const soon = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        show();
      });
    };
    const set = (hand, number) => {
      state[hand] = number;
      soon();
    };

    const handles = HANDS.map((hand) => {
      const handle = element("div", {className: "handle", tabIndex: 0, role: "slider", ariaLabel: `${hand}: arrow keys turn this hand`});
      handle.setAttribute("aria-valuemin", 0);
      handle.setAttribute("aria-valuemax", p - 1);
      handle.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const moves = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5};
        if (event.key in moves) set(hand, wrap(state[hand] + moves[event.key]));
        else if (event.key === "Home") set(hand, 0);
        else if (event.key === "End") set(hand, p - 1);
        else return;
        event.preventDefault();
      });
      stage.append(handle);
      return handle;
    });

    // the number whose mark is nearest to the direction of a press, and where it is in the picture
    const pressed = ({clientX, clientY}) => {
      const frame = stage.getBoundingClientRect();
      const unit = (2 * middle) / frame.width;
      const x = (clientX - frame.left) * unit - middle;
      const y = middle - (clientY - frame.top) * unit;
      return {x, y, number: numberAt(wrap(Math.round((Math.atan2(x, y) / (2 * Math.PI)) * p)))};
    };
    const nearest = ({x, y}) => {
      const far = HANDS.map((hand) => {
        const [hx, hy] = at(markOf(state[hand]), lengths[hand]);
        return Math.hypot(hx - middle - x, middle - hy - y);
      });
      return far[0] < far[1] ? 0 : 1;
    };
    let held = null;
    let tapped = false;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const on = handles.includes(event.target);
      tapped = !on && event.pointerType !== "mouse"; // a finger beside a hand may mean to scroll
      if (tapped) return;
      const place = pressed(event);
      held = nearest(place); // of two handles on one place either may be meant
      stage.setPointerCapture(event.pointerId);
      stage.classList.add("held");
      event.preventDefault();
      handles[held].focus({preventScroll: true});
      set(HANDS[held], place.number);
    });
    stage.addEventListener("pointermove", (event) => {
      if (held !== null) set(HANDS[held], pressed(event).number);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      stage.addEventListener(kind, () => {
        held = null;
        stage.classList.remove("held");
      });
    }
    stage.addEventListener("click", (event) => {
      const place = pressed(event);
      if (tapped) set(HANDS[nearest(place)], place.number);
      tapped = false;
    });

    const frequency = choices("frequency of the clock", keys.map((k) => [k, `k = ${k}`]), (k) => {
      state.k = k;
      soon();
    });
    const which = choices("logits", [[false, "this clock"], [true, `all ${keys.length} clocks`]], (all) => {
      state.all = all;
      soon();
    });
    root.querySelector(".controls").append(frequency.group, which.group);

    const show = () => {
      const sum = wrap(state.a + state.b);
      for (const [hand, number] of [["a", state.a], ["b", state.b], ["sum", sum]]) {
        const [x, y] = at(markOf(number), lengths[hand]);
        const group = stage.querySelector(`[data-hand="${hand}"]`);
        group.querySelector("line").setAttribute("x2", one(x));
        group.querySelector("line").setAttribute("y2", one(y));
        group.querySelector("circle").setAttribute("cx", one(x));
        group.querySelector("circle").setAttribute("cy", one(y));
      }
      for (const text of stage.querySelectorAll("[data-number]")) {
        const [x, y] = at(markOf(Number(text.dataset.number)), numbers);
        text.setAttribute("x", one(x));
        text.setAttribute("y", one(y));
      }
      HANDS.forEach((hand, i) => {
        const [x, y] = at(markOf(state[hand]), lengths[hand]);
        handles[i].style.left = `${(100 * x) / (2 * middle)}%`;
        handles[i].style.top = `${(100 * y) / (2 * middle)}%`;
        handles[i].setAttribute("aria-valuenow", state[hand]);
        handles[i].setAttribute("aria-valuetext", `${hand} = ${state[hand]}`);
      });
      const logits = logitsOf(sum, state.all ? keys : [state.k], p);
      const [left, top, right, bottom] = box;
      const points = logits.map((y, c) => [
        one(left + ((c + 0.5) / p) * (size[0] - left - right)),
        one(top + ((1.05 - y) / 2.1) * (size[1] - top - bottom)),
      ]);
      root.querySelector('[data-line="logits"]').setAttribute("points", points.map((point) => point.join(",")).join(" "));
      const dot = root.querySelector('[data-dot="answer"]');
      dot.setAttribute("cx", points[sum][0]);
      dot.setAttribute("cy", points[sum][1]);
      frequency.show(state.k);
      which.show(state.all);
      const next = Math.max(...logits.filter((_, c) => c !== sum));
      const whole = state.a + state.b;
      const turn = whole >= p ? `${whole}, a whole turn more than ${sum}` : `${whole}`;
      root.querySelector(".said").textContent =
        `${state.a} + ${state.b} = ${turn}. The largest logit is that of ${sum}; the next is lower by ${(1 - next).toFixed(3)}.`;
    };
    show();
    root.dataset.drawn = "";
  };

  const all = () => document.querySelectorAll(".lrd-clock").forEach(begin);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", all) : all();
})();
