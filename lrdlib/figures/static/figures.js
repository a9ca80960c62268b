/* Draws plotly figures, on the book's pages and on pages of their own (lrdlib/figures/page.py).
 *
 * lrdlib/figures/sphinx.py leaves <figure class="lrd-figure"><div class="lrd-plot"></div><script type="application/json">.
 * A figure is drawn when it comes into view (near it, once the reader scrolls), in the page's colours, with the layout
 * that its width allows: layout.meta.narrow, if it is there, holds what a phone changes of it. Sliders and buttons become
 * the browser's own controls: they work by keyboard, by touch and at any width. A figure that is drawn says so by the
 * event "lrd:drawn". One of 3-D traces is drawn by solid.js, all others by plotly. Before a page is printed all its
 * figures are drawn, as wide as the paper and in light colours.
 */
(() => {
  "use strict";

  const SITE = document.currentScript.src && new URL("..", document.currentScript.src);
  const BUNDLE = "vendor/plotly/plotly-cartesian.min.js";
  const NARROW = window.matchMedia("(max-width: 600px)");
  const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");
  const TOUCH = window.matchMedia("(hover: none)"); // nothing hovers here, so plotly's bar of icons would never go away
  const COLUMN = 260; // the least width of one column of subplots, in CSS pixels
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

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // ---- layout: flat updates such as {"xaxis.gridcolor": "#ddd"}, which Plotly.relayout takes as they are

  const read = (layout, path) => path.split(".").reduce((node, key) => node?.[key], layout);

  const write = (layout, update) => {
    for (const [path, value] of Object.entries(update)) {
      const keys = path.split(".");
      const last = keys.pop();
      keys.reduce((node, key) => (node[key] ??= {}), layout)[last] = value;
    }
    return layout;
  };

  const axes = (layout) => ["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d+$/.test(key))];

  const columns = (layout) =>
    new Set(axes(layout).filter((key) => key[0] === "x").map((key) => layout[key]?.domain?.[0] ?? 0)).size;

  // The layout for this width, before margins and fonts.
  const shaped = (layout) =>
    NARROW.matches && layout.meta?.narrow ? write(structuredClone(layout), layout.meta.narrow) : layout;

  const shape = (layout) => {
    const now = shaped(layout);
    return Object.fromEntries(Object.keys(layout.meta?.narrow ?? {}).map((path) => [path, read(now, path) ?? null]));
  };

  // Panels side by side keep their width on a phone and scroll inside their own box; all else is laid out anew.
  const slim = (layout) => NARROW.matches && columns(layout) === 1;
  const scrolls = (layout) => NARROW.matches && columns(layout) > 1;

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

  const wrap = (text, width) =>
    text.replace(/[^<>]+/g, (run) =>
      run.split(" ").reduce((lines, word) => {
        const last = lines.split("<br>").pop();
        return lines && last.length + word.length >= width ? `${lines}<br>${word}` : lines ? `${lines} ${word}` : word;
      }, ""),
    );

  const titleOf = (layout) => (typeof layout.title === "string" ? layout.title : layout.title?.text) ?? "";

  // How high the legend is when it lies below the plot of a phone: rows of as many entries as fit side by side.
  const legendHeight = (layout, data) => {
    const names = data.filter((trace) => trace.name && trace.showlegend !== false).map((trace) => trace.name);
    if (layout.showlegend === false || names.length < (layout.showlegend ? 1 : 2)) return 0;
    const fit = Math.max(1, Math.floor(320 / (45 + 6 * Math.max(...names.map((name) => name.length)))));
    return 20 * Math.ceil(names.length / fit) + 8;
  };

  // A figure of many panels has its legend above them on a phone too: meta.narrow says so.
  const onTop = (layout) => layout.meta?.narrow?.["legend.yanchor"] === "top";

  // Room at the sides for this width. The slider and the buttons leave the plot, and so does the room made for them;
  // what is left between the margins keeps its height.
  const room = (layout, data) => {
    const title = titleOf(layout);
    const own = {l: 60, r: 24, t: title ? 64 : layout.annotations?.length ? 40 : 24, b: 56, ...layout.margin};
    const bare = !title && !layout.annotations?.length && !legendHeight(layout, data);
    if (!slim(layout)) return {...own, t: bare ? Math.min(own.t, 24) : own.t, b: Math.min(own.b, 60)};
    const top = title ? 36 + 22 * wrap(title, 36).split("<br>").length : layout.annotations?.length ? 40 : 20;
    const legend = legendHeight(layout, data);
    return {l: Math.min(own.l, 44), r: 12, t: onTop(layout) ? 16 + legend : top, b: onTop(layout) ? 50 : 50 + legend};
  };

  const height = (layout, margin) => {
    if (!layout.height) return null;
    const before = {t: 100, b: 80, ...layout.margin};
    return layout.height - before.t - before.b + margin.t + margin.b;
  };

  const sizes = (layout, data) => {
    const narrow = slim(layout);
    const margin = room(layout, data);
    const title = titleOf(layout);
    const update = {margin, height: height(layout, margin), "title.text": narrow ? wrap(title, 36) : title};
    const phone = {
      "font.size": 11,
      "title.font.size": 14,
      "legend.orientation": "h",
      "legend.x": 0,
      "legend.xanchor": "left",
      "legend.y": onTop(layout) ? 1 : 0,
      "legend.yanchor": onTop(layout) ? "top" : "bottom",
      "legend.yref": "container",
    };
    for (const [path, value] of Object.entries(phone)) update[path] = narrow ? value : (read(layout, path) ?? null);
    const size = update["font.size"] ?? 13;
    // plotly sets powers of ten a quarter larger than all else
    for (const axis of axes(layout))
      if (layout[axis]?.type === "log" && layout[axis].exponentformat === "power")
        update[`${axis}.tickfont.size`] = size / 1.25;
    const finger = NARROW.matches || TOUCH.matches; // on the figure it scrolls the page
    update.dragmode = finger ? false : (layout.dragmode ?? null);
    return update;
  };

  // ---- controls

  const follow = (plot, {method = "animate", args = [], execute = true}) => {
    if (method === "skip" || !execute) return;
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
    plot.on("plotly_animatingframe", ({name}) => {
      const at = steps.findIndex((step) => step.args?.[0]?.[0] === name);
      if (at >= 0 && at !== Number(input.value)) {
        input.value = at;
        show();
      }
    });
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

  const controls = (plot, layout) => {
    const made = [
      ...(layout.updatemenus ?? []).filter((spec) => spec.visible !== false).map((spec) => menu(plot, spec)),
      ...(layout.sliders ?? []).filter((spec) => spec.visible !== false).map((spec) => slider(plot, spec)),
    ];
    if (made.length) plot.after(element("div", {className: "lrd-controls"}, ...made));
  };

  // ---- one figure

  const draw = async (plot) => {
    const {data = [], layout = {}, frames = []} = JSON.parse(plot.parentElement.querySelector("script").textContent);
    const Plotly = isSolid(data) ? window.lrdSolid : (window.Plotly ?? (await plotly()));
    if (drawers.has(plot)) return; // for paper, while the bundle was on its way
    drawers.set(plot, Plotly);
    const {sliders: _sliders, updatemenus: _menus, width: _width, ...own} = layout;
    const fit = () => {
      const wide = scrolls(shaped(own));
      plot.style.minWidth = wide ? `${columns(shaped(own)) * COLUMN}px` : "";
      wide ? plot.parentElement.setAttribute("tabindex", "0") : plot.parentElement.removeAttribute("tabindex");
    };
    fit();
    const dressed = write(structuredClone(shaped(own)), {...colours(own), ...sizes(shaped(own), data)});
    const bar = TOUCH.matches ? {displayModeBar: false} : {modeBarButtonsToRemove: ["lasso2d", "select2d"]};
    const config = {responsive: true, displaylogo: false, ...bar};
    await Plotly.newPlot(plot, {data, layout: dressed, frames, config});
    controls(plot, layout);
    new MutationObserver(() => Plotly.relayout(plot, colours(own))).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
    NARROW.addEventListener("change", () => {
      fit();
      Plotly.relayout(plot, {...shape(own), ...sizes(shaped(own), data), width: null, autosize: true});
    });
    plot.style.minHeight = "";
    plot.setAttribute("role", "group"); // its label tells it all; an image must hold no buttons
    plot.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
    plot.dispatchEvent(new CustomEvent("lrd:drawn", {bubbles: true}));
    plot.dataset.drawn = "";
  };

  const drawOrSay = (plot) =>
    draw(plot).catch((error) => {
      console.error(error);
      plot.textContent = `This figure could not be drawn. ${plot.getAttribute("aria-label")}`;
    });

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
      missing.forEach(drawOrSay);
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

  // ---- when: as it comes into view; once the reader scrolls, a little before

  const watch = (margin) => {
    const near = new IntersectionObserver(
      (entries) => {
        for (const {isIntersecting, target} of entries) {
          if (!isIntersecting) continue;
          near.unobserve(target);
          if (!drawers.has(target)) drawOrSay(target);
        }
      },
      {rootMargin: `${margin}px 0px`},
    );
    for (const plot of document.querySelectorAll(".lrd-plot")) if (!drawers.has(plot)) near.observe(plot);
    return near;
  };

  const start = () => {
    const first = watch(0);
    const scrolled = () => {
      first.disconnect();
      watch(600);
    };
    window.addEventListener("scroll", scrolled, {once: true, passive: true});
    window.addEventListener("beforeprint", toPaper);
    window.addEventListener("afterprint", fromPaper);
  };

  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
