/* Tours: words and picture together. A strip in the lab with the text of one stop, Back and Next; arrow keys go on as well.
 *
 * A tour is a list in what stands in the lab before its script runs, so it can be read without one:
 *   <section class="lrd-tour" data-name="..."> <p><a class="lrd-go" href="#lab:...">...</a> ...</p> ... </section>
 * Each paragraph is a stop, and its first link is where it leads; with data-about it is about that panel, which the style
 * sheet puts first where panels stand below one another. makeTours(root, go) -> {choice, strip}, or null where there are
 * none; go(hash) shows a view.
 */

const toursIn = (root) =>
  [...root.querySelectorAll(".lrd-tour")].map((tour) => ({
    name: tour.dataset.name,
    stops: [...tour.querySelectorAll("p")].map((stop) => ({node: stop, panel: stop.dataset.about ?? "", hash: stop.querySelector("a[href^='#lab:']")?.getAttribute("href")})),
  }));

const makeTours = (root, go) => {
  const tours = (root.lrdTours ??= toursIn(root)); // another start of the lab finds them again
  if (!tours.length) return null;
  let tour = null;
  let at = 0;
  const text = element("div", {className: "lab-tour-text", "aria-live": "polite"});
  const count = element("span", {className: "lab-tour-count"});
  const makeStep = (name, by) => element("button", {type: "button", textContent: name, onclick: () => step(by)});
  const [back, next] = [makeStep("Back", -1), makeStep("Next", 1)];
  const select = element("select", {"aria-label": "tour", onchange: () => choose(select.value)});
  fill(select, [{value: "", text: "take a tour"}, ...tours.map(({name}, i) => ({value: i, text: `${i + 1}. ${name}`}))], "");
  const node = element("section", {className: "lab-tour", "aria-label": "tour", hidden: true}, text, element("div", {className: "lab-tour-steps"}, count, back, next));

  const show = () => {
    node.hidden = !tour;
    select.options[0].textContent = tour ? "end the tour" : "take a tour";
    text.replaceChildren(...(tour ? [tour.stops[at].node] : []));
    root.dataset.tour = tour?.stops[at].panel ?? "";
    count.textContent = tour ? `${at + 1} of ${tour.stops.length}` : "";
    back.setAttribute("aria-disabled", String(at === 0));
    next.setAttribute("aria-disabled", String(!tour || at === tour.stops.length - 1));
    const hash = tour?.stops[at].hash;
    if (hash) go(hash);
  };
  const choose = (value) => {
    tour = value === "" ? null : tours[value];
    at = 0;
    show();
  };
  const step = (by) => {
    const to = at + by;
    if (!tour || to < 0 || to >= tour.stops.length) return;
    at = to;
    show();
  };
  node.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // Alt and an arrow lead back
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  show();
  return {choice: select, strip: node};
};
