/* A phase diagram's cells answer. Point at one, or go there by arrow keys, and a card beside it plays its curves; click it,
 * press Enter, or choose it in the lists, and they are drawn below, and larger.
 *
 * Works on any figure whose layout.meta.phase is what lrdlib/figures/phase.py writes there:
 *   panels, rows, columns: labels; prefix: what rows are ("λ = "); selected: [panel, row, column]
 *   heat: the trace of each panel; first: the first of the curves' traces, four to a seed; seeds: one per slot of four
 *   colours: of each panel one for each seed, shades of its rule's
 *   note, frame: which annotation is the curves' headline, which shape goes around the selected cell
 *   steps: arrays of steps; curves: "panel,row,column" -> [[slot, steps, test, orbit-clean, train, rank], ...], where a
 *   number is two digits (of `digits`, in base 64) and stands for itself over its `units`; "~~" is none
 */
(() => {
  "use strict";

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const NAMESPACE = "http://www.w3.org/2000/svg";
  const drawn = (tag, attributes, text = "") => {
    const made = document.createElementNS(NAMESPACE, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  };

  const text = (hover) => hover.replaceAll("<br>   ", "; ").replaceAll("<br>", "\n").replace(/<[^>]*>/g, "");

  // The traces of one cell: x, y, colour and whether the legend names it, four to a seed.
  const traces = (phase, [p, r, c]) => {
    const key = `${p},${r},${c}`;
    const update = {x: [], y: [], showlegend: [], "line.color": []};
    phase.seeds.forEach((_, slot) => {
      const run = (phase.curves[key] ?? []).find(([theirs]) => theirs === slot);
      const steps = run ? phase.steps[run[1]] : [];
      phase.units.forEach((unit, kind) => {
        const values = (run?.[2 + kind].match(/../g) ?? []).map(([a, b]) =>
          a === "~" ? null : (64 * phase.digits.indexOf(a) + phase.digits.indexOf(b)) / unit,
        );
        update.x.push(values.length ? steps : []);
        update.y.push(values);
        update.showlegend.push(kind === 0 && Boolean(run));
        update["line.color"].push(phase.colours[p][slot]);
      });
    });
    return update;
  };

  // ---- the card beside a cell

  const CHART = {width: 280, height: 92, left: 30, right: 272, top: 18, bottom: 76};
  const DASHES = {dash: "6 4", dot: "2 3"};

  // One small chart of a card: curves {x, y, line} over the steps from 0 to `last`, with values from 0 to `highest`.
  const chart = (name, curves, last, highest) => {
    const {width, height, left, right, top, bottom} = CHART;
    const svg = drawn("svg", {viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true"});
    const at = (step, value) => `${(left + ((right - left) * step) / last).toFixed(1)},${(bottom - ((bottom - top) * value) / highest).toFixed(1)}`;
    const say = (words, x, y, anchor = "start") => drawn("text", {x, y, "text-anchor": anchor}, words);
    const group = drawn("g", {class: "lrd-plays"});
    for (const {x, y, line} of curves) {
      const parts = [[]]; // a number that is none ends a part
      y.forEach((value, i) => (value === null ? parts.push([]) : parts.at(-1).push(at(x[i], value))));
      for (const points of parts.filter(({length}) => length))
        group.append(drawn("polyline", {points: points.join(" "), stroke: line.color, "stroke-width": line.width, "stroke-dasharray": DASHES[line.dash] ?? "none"}));
    }
    svg.append(drawn("path", {d: `M${left} ${top}V${bottom}H${right}`}), group, say(name, 0, 11));
    svg.append(say("0", left - 5, bottom, "end"), say(Number(highest.toPrecision(2)), left - 5, top + 4, "end"));
    svg.append(say("step 0", left, height - 4), say(last, right, height - 4, "end"));
    return svg;
  };

  const makeCard = (plot, phase) => {
    const card = element("div", {className: "lrd-peek", hidden: true});
    const last = Math.max(1, ...phase.steps.flat());
    const highest = [1, 4000 / phase.units.at(-1)]; // of accuracies and of ranks
    plot.parentElement.append(card);

    const axesOf = (p) => {
      const {xaxis = "x", yaxis = "y"} = plot.data[phase.heat[p]];
      return [xaxis, yaxis].map((id) => plot._fullLayout[`${id[0]}axis${id.slice(1)}`]);
    };
    // Where a cell is, in CSS pixels of the figure.
    const boxOf = ([p, r, c]) => {
      const [x, y] = axesOf(p);
      const [left, right] = [-0.5, 0.5].map((by) => plot.offsetLeft + x._offset + x.c2p(c + by));
      const [top, bottom] = [0.5, -0.5].map((by) => plot.offsetTop + y._offset + y.c2p(r + by));
      return {left, right, top, bottom};
    };
    // The cell under a pointer, or null. plotly does not tell of one without a colour.
    const under = ({clientX, clientY}) => {
      const {left, top} = plot.getBoundingClientRect();
      for (const p of phase.panels.keys()) {
        const [x, y] = axesOf(p);
        const [r, c] = [Math.round(y.p2c(clientY - top - y._offset)), Math.round(x.p2c(clientX - left - x._offset))];
        if (plot.data[phase.heat[p]].hovertext[r]?.[c]) return [p, r, c];
      }
      return null;
    };

    const put = ({left, right, top, bottom}) => {
      const {clientWidth: width, clientHeight: height} = plot.parentElement;
      const end = Math.min(height, innerHeight - plot.parentElement.getBoundingClientRect().top); // what can be seen of it
      const [own, tall] = [card.offsetWidth, card.offsetHeight];
      const beside = right + 10 + own <= width ? right + 10 : left - 10 - own;
      const below = bottom + 10 + tall <= end || top - 10 - tall < 0 ? bottom + 10 : top - 10 - tall;
      const fits = beside >= 0; // at its side, else below or above it
      card.style.left = `${fits ? beside : Math.max(0, Math.min((left + right - own) / 2, width - own))}px`;
      card.style.top = `${fits ? Math.max(0, Math.min((top + bottom - tall) / 2, height - tall)) : below}px`;
    };

    const hide = () => {
      card.hidden = true;
      plot.classList.remove("lrd-peeking");
    };
    const show = (place) => {
      const [p, r, c] = place;
      const [title, ...lines] = text(plot.data[phase.heat[p]].hovertext[r][c] ?? "").split("\n");
      if (!title) return hide();
      const {x, y, "line.color": colours} = traces(phase, place);
      const curves = x.map((steps, i) => ({x: steps, y: y[i], line: {...plot.data[phase.first + i].line, color: colours[i]}}));
      const kinds = phase.units.length;
      const [accuracies, ranks] = [(i) => i % kinds < kinds - 1, (i) => i % kinds === kinds - 1].map((its) => curves.filter((_, i) => its(i)));
      const charts = place.join() in phase.curves ? [chart("accuracy; train dotted, test dashed", accuracies, last, highest[0]), chart("stable rank of queries and keys", ranks, last, highest[1])] : [];
      card.replaceChildren(element("strong", {textContent: title}), ...charts, element("span", {textContent: lines.map((line) => line.split("; ")[0]).join("\n")}));
      card.hidden = false;
      plot.classList.add("lrd-peeking"); // the card says what plotly's label would
      put(boxOf(place));
    };
    return {show, hide, boxOf, under};
  };

  // The place beside one, [up, across] from it; at an edge of a panel, in the next.
  const moved = (phase, [p, r, c], [up, across]) => {
    const [panels, rows, columns] = [phase.panels.length, phase.rows.length, phase.columns.length];
    const next = p + Math.sign(across);
    const over = Number.isFinite(across) && (c + across < 0 || c + across >= columns);
    if (over && next >= 0 && next < panels) return [next, r, across > 0 ? 0 : columns - 1];
    const clip = (value, size) => Math.min(Math.max(value, 0), size - 1);
    return [p, clip(r + up, rows), clip(c + across, columns)];
  };

  // What the keyboard holds: a frame that arrow keys move from cell to cell, and at an edge to the next panel.
  const makeGrip = (plot, phase, card, choose) => {
    let place = phase.selected;
    const grip = element("div", {className: "lrd-grip", tabIndex: 0, role: "slider", ariaValueMin: "1", ariaLabel: "cell of the diagram: arrow keys go from cell to cell, Enter draws its curves below"});
    const sizes = [phase.panels.length, phase.rows.length, phase.columns.length];
    grip.ariaValueMax = String(sizes[0] * sizes[1] * sizes[2]);
    const go = () => {
      const [p, r, c] = place;
      grip.ariaValueNow = String(1 + (p * sizes[1] + r) * sizes[2] + c);
      grip.ariaValueText = text(plot.data[phase.heat[p]].hovertext[r][c] ?? "This cell is not part of the grid.");
      const {left, right, top, bottom} = card.boxOf(place);
      Object.assign(grip.style, {left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px`});
    };
    const moves = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0], Home: [0, -Infinity], End: [0, Infinity]};
    grip.addEventListener("focus", () => {
      go();
      if (grip.matches(":focus-visible")) card.show(place);
    });
    grip.addEventListener("blur", card.hide);
    grip.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return; // Alt and an arrow lead back
      const {key} = event;
      if (key === "Escape") return card.hide();
      if (!moves[key] && key !== "Enter" && key !== " ") return;
      event.preventDefault();
      if (!moves[key]) return choose(place);
      place = moved(phase, place, moves[key]);
      go();
      card.show(place);
    });
    plot.after(grip);
    go();
    return (wanted) => {
      place = wanted;
      go();
    };
  };

  // ---- what a cell is chosen by

  const attach = (plot, phase) => {
    const [panel, row, column] = [phase.panels, phase.rows, phase.columns].map((labels) =>
      element("select", {}, ...labels.map((label, value) => element("option", {value, textContent: label}))),
    );
    const say = element("p", {className: "lrd-cell"});
    say.setAttribute("role", "status");
    const indices = [...Array(phase.seeds.length * phase.units.length).keys()].map((i) => phase.first + i);

    const describe = ([p, r, c]) => {
      const hover = plot.data[phase.heat[p]].hovertext[r][c];
      const command = plot.data[phase.heat[p]].customdata[r][c];
      say.replaceChildren(hover ? text(hover) : "This cell is not part of the grid.");
      if (command) say.append(element("code", {textContent: command.replaceAll("<br>", " ")}));
    };

    const show = () => {
      const place = [panel, row, column].map((select) => Number(select.value));
      const [p, r, c] = place;
      const empty = place.join() in phase.curves ? "" : " — not recorded yet";
      const cell = `fraction ${phase.columns[c]}, ${phase.prefix}${phase.rows[r]}`;
      const {xaxis = "x", yaxis = "y"} = plot.data[phase.heat[p]];
      const frame = {xref: xaxis, yref: yaxis, x0: c - 0.5, x1: c + 0.5, y0: r - 0.5, y1: r + 0.5};
      const layout = {[`annotations[${phase.note}].text`]: `<b>${phase.panels[p]}</b>${empty}<br>${cell}`};
      for (const [part, value] of Object.entries(frame)) layout[`shapes[${phase.frame}].${part}`] = value;
      window.Plotly.update(plot, traces(phase, place), layout, indices);
      describe(place);
      hold(place);
    };
    const choose = (place) => {
      [panel.value, row.value, column.value] = place;
      show();
    };

    [panel.value, row.value, column.value] = phase.selected;
    for (const select of [panel, row, column]) select.addEventListener("change", show);
    const card = makeCard(plot, phase);
    const hold = makeGrip(plot, phase, card, choose);
    let over = ""; // the cell that the mouse is on
    plot.addEventListener("pointermove", (event) => {
      const place = event.pointerType === "mouse" && !event.buttons ? card.under(event) : null;
      if (String(place) === over) return;
      over = String(place);
      place ? card.show(place) : card.hide();
    });
    plot.addEventListener("pointerleave", () => {
      over = "";
      card.hide();
    });
    plot.addEventListener("click", (event) => {
      const place = card.under(event);
      if (!place) return;
      choose(place);
      card.show(place); // under a finger, which hovers nowhere
    });
    document.addEventListener("pointerdown", ({target}) => plot.contains(target) || card.hide());
    document.addEventListener("keydown", ({key}) => key === "Escape" && card.hide());
    const label = (name, select) => {
      select.setAttribute("aria-label", name);
      return element("label", {className: "lrd-choice"}, name, select);
    };
    // for a finger, under which cells are small
    const steps = {"←": ["left", 0, -1], "→": ["right", 0, 1], "↑": ["up", 1, 0], "↓": ["down", -1, 0]};
    const buttons = Object.entries(steps).map(([textContent, [way, up, across]]) => {
      const place = () => [panel, row, column].map((select) => Number(select.value));
      return element("button", {type: "button", textContent, ariaLabel: `one cell ${way}`, onclick: () => choose(moved(phase, place(), [up, across]))});
    });
    const choices = [label("rule", panel), label("fraction", column), label(phase.prefix.replace(/[\s=]+$/, ""), row)];
    const lead = element("span", {textContent: "Point at a cell, click it, or choose one here:"});
    const beside = element("span", {className: "lrd-steps"}, ...buttons);
    plot.parentElement.append(element("div", {className: "lrd-controls lrd-choices"}, lead, ...choices, beside, say));
    describe(phase.selected);
  };

  document.addEventListener("lrd:drawn", ({target}) => {
    if (target.layout.meta?.phase) attach(target, target.layout.meta.phase);
  });
})();
