/* Draws plotly figures, on the book's pages and on pages of their own (lrdlib/figures/page.py).
 *
 * lrdlib/figures/sphinx.py leaves <figure class="lrd-figure"><div class="lrd-plot"></div><script type="application/json">.
 * Where sphinx.py drew a still of the figure (.lrd-still), that is what the reader sees until plotly is asked for: by
 * the first scroll, or by a pointer, a finger or the keyboard on the figure. Without one a figure is drawn when it comes
 * into view; once the reader scrolls, all are drawn near it. A figure is drawn in the page's colours, with the layout that
 * its width allows: "widths" in its data has what a phone changes (lrdlib/figures/widths.py). Sliders and buttons become
 * the browser's own controls: they work by keyboard, by touch and at any width, and are there with the still. A figure
 * that is drawn says so by the event "lrd:drawn". One of 3-D traces is drawn by solid.js, all others by plotly. Before a
 * page is printed all its figures are drawn, as wide as the paper and in light colours.
 */
(() => {
  "use strict";

  const SITE = document.currentScript.src && new URL("..", document.currentScript.src);
  const BUNDLE = "vendor/plotly/plotly-cartesian.min.js";
  const NARROW = window.matchMedia("(max-width: 600px)");
  const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");
  const TOUCH = window.matchMedia("(hover: none)"); // nothing hovers here, so plotly's bar of icons would never go away
  const PAPER = 660; // the width of a figure on paper, in CSS pixels: A4 and Letter with their margins have room for it

  const SOLID = ["mesh3d", "scatter3d"]; // traces that solid.js draws
  const isSolid = (data) => data.some(({type}) => SOLID.includes(type));

  let loading;
  const plotly = () =>
    (loading ??= new Promise((resolve, reject) => {
      if (window.Plotly) return resolve(window.Plotly); // a page of its own brings it along
      const script = document.createElement("script");
      script.src = new URL(BUNDLE, SITE);
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => reject(new Error(`cannot load ${script.src}`));
      document.head.append(script);
    }));

  // The same at once, for paper: a page that is about to be printed waits for no script.
  const plotlyNow = () => {
    if (window.Plotly) return;
    const request = new XMLHttpRequest();
    request.open("GET", new URL(BUNDLE, SITE), false);
    request.send();
    (0, eval)(request.responseText);
  };

  const drawers = new WeakMap(); // plot -> what draws it: Plotly, or solid.js
  const clicks = new WeakMap(); // plot -> what clicks again where its still was clicked last

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // ---- layout: flat updates such as {"xaxis.gridcolor": "#ddd"}, which Plotly.relayout takes as they are

  const write = (layout, update) => {
    for (const [path, value] of Object.entries(update)) {
      const keys = path.split(".");
      const last = keys.pop();
      keys.reduce((node, key) => (node[key] ??= {}), layout)[last] = value;
    }
    return layout;
  };

  const axes = (layout) => ["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d+$/.test(key))];

  const colours = (layout) => {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--lrd-figure-ink").trim();
    const line = style.getPropertyValue("--lrd-figure-line").trim();
    const ground = style.getPropertyValue("--pst-color-surface").trim();
    const clear = "rgba(0, 0, 0, 0)";
    const update = {"font.color": ink, "legend.bgcolor": clear, paper_bgcolor: clear, plot_bgcolor: clear};
    Object.assign(update, {"modebar.bgcolor": ground, "modebar.color": ink, "modebar.activecolor": ink});
    for (const axis of axes(layout))
      for (const part of ["gridcolor", "zerolinecolor", "linecolor", "tickcolor"]) update[`${axis}.${part}`] = line;
    return update;
  };

  // What the width of the window makes of the layout.
  const fitted = (layout, widths) => ({
    ...(NARROW.matches ? widths.narrow : widths.wide),
    dragmode: NARROW.matches || TOUCH.matches ? false : (layout.dragmode ?? null), // a finger scrolls the page
  });

  // ---- controls

  const follow = async (plot, {method = "animate", args = [], execute = true}) => {
    if (method === "skip" || !execute) return;
    await drawOrSay(plot);
    if (!("drawn" in plot.dataset)) return; // it could not be drawn, and says so
    if (method !== "animate") return drawers.get(plot)[method](plot, ...args);
    const options = {...args[1], mode: "immediate"};
    if (STILL.matches) options.transition = {duration: 0};
    // an animation that the next one interrupts is no error
    drawers.get(plot).animate(plot, args[0], options).catch(() => {});
  };

  const slider = (plot, spec) => {
    const steps = spec.steps.filter((step) => step.visible !== false);
    const {prefix = "", suffix = ""} = spec.currentvalue ?? {};
    const value = element("output");
    const input = element("input", {type: "range", min: 0, max: steps.length - 1, step: 1, value: spec.active ?? 0});
    const show = () => {
      const label = steps[input.value].label ?? String(steps[input.value].value ?? input.value);
      value.textContent = label + suffix;
      input.setAttribute("aria-valuetext", label + suffix);
    };
    input.addEventListener("input", () => {
      show();
      follow(plot, steps[input.value]);
    });
    const shown = ({name}) => {
      const at = steps.findIndex((step) => step.args?.[0]?.[0] === name);
      if (at >= 0 && at !== Number(input.value)) {
        input.value = at;
        show();
      }
    };
    plot.addEventListener("lrd:drawn", () => plot.on("plotly_animatingframe", shown));
    show();
    const name = prefix.trim().replace(/[:=]$/, "").trim() || "step";
    return element("label", {className: "lrd-slider"}, element("span", {textContent: name}), input, value);
  };

  const NAMES = {"▶": "play", "❚❚": "pause"};

  const push = (plot, spec) => {
    const made = element("button", {type: "button", textContent: spec.label, onclick: () => follow(plot, spec)});
    if (NAMES[spec.label]) made.ariaLabel = NAMES[spec.label];
    return made;
  };

  const menu = (plot, spec) => {
    const buttons = spec.buttons.filter((button) => button.visible !== false);
    if (spec.type === "buttons")
      return element("span", {className: "lrd-buttons"}, ...buttons.map((button) => push(plot, button)));
    const options = buttons.map((button, index) => element("option", {value: index, textContent: button.label}));
    const select = element("select", {onchange: () => follow(plot, buttons[select.value])}, ...options);
    select.setAttribute("aria-label", spec.name ?? "what the figure shows");
    select.value = spec.active ?? 0;
    return select;
  };

  // The controls of a figure, in the room that is left for them: once, and before it is drawn.
  const controls = (plot, {updatemenus = [], sliders = []}) => {
    const box = plot.parentElement.querySelector(".lrd-controls");
    if (!box || box.childElementCount) return;
    const shown = (specs) => specs.filter((spec) => spec.visible !== false);
    box.append(...shown(updatemenus).map((spec) => menu(plot, spec)), ...shown(sliders).map((spec) => slider(plot, spec)));
  };

  // ---- one figure

  const figureOf = (plot) => JSON.parse(plot.parentElement.querySelector("script").textContent);

  // A box that scrolls sideways can be scrolled by keyboard.
  const reach = ({parentElement: box}) =>
    box.scrollWidth > box.clientWidth ? box.setAttribute("tabindex", "0") : box.removeAttribute("tabindex");

  const draw = async (plot) => {
    const {data = [], layout = {}, frames = [], widths} = figureOf(plot);
    const Plotly = isSolid(data) ? window.lrdSolid : (window.Plotly ?? (await plotly()));
    if (drawers.has(plot)) return; // for paper, while the bundle was on its way
    drawers.set(plot, Plotly);
    const {sliders: _sliders, updatemenus: _menus, width: _width, ...own} = layout;
    const dressed = write(structuredClone(own), {...colours(own), ...fitted(own, widths)});
    const bar = TOUCH.matches ? {displayModeBar: false} : {modeBarButtonsToRemove: ["lasso2d", "select2d"]};
    const still = dressed.dragmode === false ? {doubleClick: false} : {}; // plotly takes one tap for a double click
    const config = {responsive: true, displaylogo: false, ...bar, ...still};
    await Plotly.newPlot(plot, {data, layout: dressed, frames, config});
    plot.querySelectorAll(".lrd-still").forEach((still) => still.remove());
    controls(plot, layout);
    reach(plot);
    new MutationObserver(() => Plotly.relayout(plot, colours(own))).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
    NARROW.addEventListener("change", () => {
      reach(plot);
      Plotly.relayout(plot, {...fitted(own, widths), width: null, autosize: true});
    });
    plot.setAttribute("role", "group"); // its label tells it all; an image must hold no buttons
    plot.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
    plot.dispatchEvent(new CustomEvent("lrd:drawn", {bubbles: true}));
    plot.dataset.drawn = "";
    clicks.get(plot)?.();
  };

  const drawings = new WeakMap(); // plot -> the promise of its drawing

  const drawNow = (plot) => {
    const drawing = draw(plot).catch((error) => {
      console.error(error);
      plot.textContent = `This figure could not be drawn. ${plot.getAttribute("aria-label")}`;
    });
    drawings.set(plot, drawing);
    return drawing;
  };

  const drawOrSay = (plot) => drawings.get(plot) ?? drawNow(plot);

  // ---- paper

  let theme; // the reader's, while the page is printed

  const toPaper = () => {
    const page = document.documentElement;
    theme = page.dataset.theme;
    page.dataset.theme = "light";
    page.style.setProperty("--lrd-paper", `${PAPER}px`);
    page.classList.add("lrd-on-paper");
    const plots = [...document.querySelectorAll(".lrd-plot")];
    const missing = plots.filter((plot) => !drawers.has(plot));
    try {
      if (missing.length) plotlyNow();
      missing.forEach(drawNow);
    } catch {
      // a page that was opened as a file may not read another: what has been seen is printed
    }
    for (const plot of plots) drawers.get(plot)?.relayout(plot, {width: PAPER});
  };

  const fromPaper = () => {
    const page = document.documentElement;
    page.classList.remove("lrd-on-paper");
    page.dataset.theme = theme;
    for (const plot of document.querySelectorAll(".lrd-plot")) drawers.get(plot)?.relayout(plot, {width: null, autosize: true});
  };

  // ---- when: a still, as the reader goes for it; else as it comes into view; once the reader scrolls, a little before

  // `arrive` is told each figure that comes within `margin` pixels of the view.
  const watch = (margin, arrive) => {
    const near = new IntersectionObserver(
      (entries) => {
        for (const {isIntersecting, target} of entries) {
          if (!isIntersecting) continue;
          near.unobserve(target);
          arrive(target);
        }
      },
      {rootMargin: `${margin}px 0px`},
    );
    for (const plot of document.querySelectorAll(".lrd-plot")) near.observe(plot);
    return near;
  };

  const greet = (plot) => {
    if (!plot.querySelector(".lrd-still") || window.Plotly) return drawOrSay(plot);
    controls(plot, figureOf(plot).layout);
    reach(plot);
    for (const event of ["pointerenter", "pointerdown", "focusin"])
      plot.parentElement.addEventListener(event, () => drawOrSay(plot), {once: true, passive: true});
    plot.addEventListener("click", (event) => keep(plot, event));
  };

  // A click on a still is made again where it was, once the figure is drawn: nobody should have to tap twice.
  const keep = (plot, {clientX, clientY}) => {
    if ("drawn" in plot.dataset) return;
    const {left, top} = plot.getBoundingClientRect();
    clicks.set(plot, () => {
      const now = plot.getBoundingClientRect();
      plot.dispatchEvent(new MouseEvent("click", {clientX: now.left + clientX - left, clientY: now.top + clientY - top}));
    });
  };

  const start = () => {
    const first = watch(0, greet);
    const scrolled = () => {
      first.disconnect();
      watch(600, drawOrSay);
    };
    window.addEventListener("scroll", scrolled, {once: true, passive: true});
    window.addEventListener("beforeprint", toPaper);
    window.addEventListener("afterprint", fromPaper);
  };

  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
