/* Questions to a network, by two numbers or by a click on the table of pairs ("lrd:pair").
 *
 * makeAsk(root, ask, say) -> {node, ready(table | null), again()}. ask(row) is a promise of {answers: [{value, share}, ...],
 * the likeliest first, label, trained, step}; ready has the shape of the table, null where nothing can be asked; again asks
 * the last question anew, if there was one.
 */

// "23 + 36": what is asked, as the table counts it.
const makeAsk = (root, ask, say) => {
  let shape = null;
  let asked = false; // something has been
  let turn = 0; // of the last question: an earlier one is not answered any more
  const [a, b] = ["a", "b"].map((name) => element("input", {type: "number", min: 0, step: 1, value: 0, inputMode: "numeric", "aria-label": name}));
  const title = element("span");
  const answer = element("p", {className: "lab-answer", role: "status"});
  const bars = element("ol", {className: "lab-answers"});
  const put = async () => {
    if (!shape) return;
    const clip = (input, end) => (input.value = Math.min(Math.max(Math.trunc(Number(input.value)) || 0, 0), end - 1));
    const pair = [clip(a, shape.down), clip(b, shape.across)];
    const mine = ++turn;
    try {
      const {answers: best, label, trained, step} = await ask(pair[0] * shape.across + pair[1]);
      if (mine !== turn) return;
      asked = true;
      if (!Number.isFinite(best[0].share)) {
        answer.textContent = `At step ${step} it answers nothing: its weights are no longer numbers.`;
        return bars.replaceChildren();
      }
      const right = best[0].value === label;
      answer.textContent = `At step ${step} it answers ${best[0].value} to (${pair.join(", ")}): ${right ? "right" : `wrong, ${label} is right`}. It has ${trained ? "" : "not "}been trained on this pair.`;
      bars.replaceChildren(...best.map(({share, value}) => {
        const bar = element("span", {className: "lab-answer-bar"});
        bar.style.width = `${(60 * share).toFixed(1)}%`;
        return element("li", {className: value === label ? "lab-answer-right" : ""}, element("b", {textContent: value}), bar, ` ${percent(share)}`);
      }));
    } catch (error) {
      if (mine === turn) say(`No answer. ${error.message}`);
    }
  };
  const form = element("form", {className: "lab-ask", hidden: true}, title, a, b, element("button", {type: "submit", textContent: "Ask"}), answer, bars);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    put();
  });
  root.addEventListener("lrd:pair", ({detail}) => {
    [a.value, b.value] = [detail.a, detail.b];
    put();
  });
  const ready = (table) => {
    shape = table;
    form.hidden = !table;
    if (!table) return (turn += 1), (asked = false), answer.replaceChildren(), bars.replaceChildren();
    [a.max, b.max] = [table.down - 1, table.across - 1];
    const last = a.max === b.max ? a.max : `${a.max} and ${b.max}`;
    title.textContent = `Ask it, 0 to ${last}:`;
  };
  return {node: form, ready, again: () => asked && put()};
};
