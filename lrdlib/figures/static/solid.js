/* Draws figures of 3-D traces as shapes on the page, to be turned by dragging or by two sliders.
 *
 * Takes the part of Plotly that figures.js uses (newPlot, relayout, animate), for traces mesh3d and scatter3d in one
 * orthographic scene: x, y and z have the range of scene.xaxis, and the camera starts at scene.camera.eye. The shapes
 * are SVG, sorted from back to front. So a figure needs no WebGL, which many machines do not have or are slow at, and
 * no second plotting library; the same figure in a notebook is drawn by plotly itself.
 */
(() => {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const STEP = 5; // degrees between two stops of a slider
  const LIFT = 0.06; // lines and points lie on faces: so much nearer, as a share of the range

  const scenes = new WeakMap(); // plot -> {data, layout, frames, turn, tilt, svg, key}

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // ---- from space to shapes

  // The three directions of a view: to the right, up, and towards the eye. turn and tilt are in degrees.
  const view = (turn, tilt) => {
    const [a, b] = [turn, tilt].map((degrees) => (degrees * Math.PI) / 180);
    const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    return [[-sa, ca, 0], [-sb * ca, -sb * sa, cb], [cb * ca, cb * sa, sb]];
  };

  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];

  // A face is lighter the more it looks to the light, which stands above the reader's left shoulder.
  const shaded = (colour, [p, q, r]) => {
    const [u, v] = [q, r].map((w) => w.map((x, i) => x - p[i]));
    const normal = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    const size = Math.hypot(...normal) || 1;
    const light = Math.abs(dot(normal, [-0.4, 0.6, 0.7])) / size;
    const mixed = colour.match(/\w\w/g).map((pair) => Math.round(parseInt(pair, 16) * (0.6 + 0.4 * light)));
    return `rgb(${mixed.join()})`;
  };

  const round = (x) => x.toFixed(1);

  // What to draw of one trace, as [depth, svg]; `to` projects a point of space to [right, down, depth].
  const shapes = (trace, to, lift, size, width) => {
    const points = trace.x.map((x, i) => (x === null ? null : to([x, trace.y[i], trace.z[i]])));
    const alpha = trace.opacity ?? 1;
    if (trace.type === "mesh3d")
      return trace.i.map((i, face) => {
        const corners = [points[i], points[trace.j[face]], points[trace.k[face]]];
        const colour = shaded(trace.color, corners.map(([x, y, depth]) => [x, -y, depth]));
        const path = `M${corners.map(([x, y]) => `${round(x)} ${round(y)}`).join("L")}Z`;
        const edge = alpha < 1 ? "" : ` stroke="${colour}" stroke-width="0.7"`;
        const depth = (corners[0][2] + corners[1][2] + corners[2][2]) / 3;
        return [depth, `<path d="${path}" fill="${colour}" fill-opacity="${alpha}"${edge}/>`];
      });
    const made = [];
    const mode = trace.mode ?? "lines";
    const line = {color: trace.line?.color, width: trace.line?.width ?? 2};
    if (mode.includes("lines"))
      for (let n = 1; n < points.length; n++) {
        const [p, q] = [points[n - 1], points[n]];
        if (!p || !q) continue;
        const style = `stroke="${line.color}" stroke-width="${line.width}" stroke-opacity="${alpha}" stroke-linecap="round"`;
        const path = `M${round(p[0])} ${round(p[1])}L${round(q[0])} ${round(q[1])}`;
        made.push([(p[2] + q[2]) / 2 + lift, `<path d="${path}" ${style}/>`]);
      }
    points.forEach((point, n) => {
      if (!point) return;
      const [x, y, depth] = point;
      if (mode.includes("markers")) {
        const {color, size: across = 6} = trace.marker ?? {};
        const one = Array.isArray(color) ? color[n] : color;
        const dot = `<path d="M${round(x)} ${round(y)}h0" stroke="${one}" stroke-width="${across}" stroke-opacity="${alpha}"`;
        made.push([depth + 2 * lift, `${dot} stroke-linecap="round"/>`]);
      }
      if (mode.includes("text") && trace.text?.[n]) {
        const {color = "currentColor", size: letters = size} = trace.textfont ?? {};
        const text = trace.text[n].replace(/&/g, "&amp;").replace(/</g, "&lt;");
        const anchor = x < 0.2 * width ? "start" : x > 0.8 * width ? "end" : "middle"; // so that it is not cut off
        const style = `fill="${color}" font-size="${letters}" text-anchor="${anchor}" dominant-baseline="central"`;
        made.push([Infinity, `<text x="${round(x)}" y="${round(y)}" ${style}>${text}</text>`]);
      }
    });
    return made;
  };

  const render = (plot) => {
    const {data, layout, turn, tilt, svg, key} = scenes.get(plot);
    const width = plot.clientWidth;
    const height = Math.min(width, (layout.height ?? 450) - (key?.offsetHeight ?? 0));
    const reach = layout.scene.xaxis.range[1];
    const scale = Math.min(width, height) / (2 * reach);
    const [right, up, towards] = view(turn, tilt);
    const to = (p) => [width / 2 + scale * dot(right, p), height / 2 - scale * dot(up, p), scale * dot(towards, p)];
    const shown = data.filter((trace) => trace.visible !== false && trace.x);
    const letters = layout.font?.size ?? 13;
    const drawn = shown.flatMap((trace) => shapes(trace, to, scale * reach * LIFT, letters, width));
    drawn.sort(([near], [far]) => (near === far ? 0 : near - far));
    svg.setAttribute("height", height);
    svg.style.color = layout.font?.color ?? "";
    svg.style.fontFamily = layout.font?.family ?? "";
    svg.innerHTML = drawn.map(([, shape]) => shape).join("");
  };

  // ---- turning

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  const look = (plot, turn, tilt) => {
    const scene = scenes.get(plot);
    scene.turn = ((turn % 360) + 360) % 360;
    scene.tilt = clamp(tilt, -90, 90);
    render(plot);
    scene.follow?.();
  };

  const drag = (plot, svg) => {
    let from = null;
    svg.addEventListener("pointerdown", (event) => {
      const {turn, tilt} = scenes.get(plot);
      from = {x: event.clientX, y: event.clientY, turn, tilt};
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [right, down] = [event.clientX - from.x, event.clientY - from.y];
      look(plot, from.turn - right / 2, event.pointerType === "touch" ? from.tilt : from.tilt + down / 2);
    });
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => (from = null));
  };

  const slider = (plot, name, [low, high], angle) => {
    const value = element("output");
    const input = element("input", {type: "range", min: low, max: high, step: STEP});
    const show = () => {
      input.value = Math.round(scenes.get(plot)[angle] / STEP) * STEP;
      value.textContent = `${input.value}°`;
      input.setAttribute("aria-valuetext", value.textContent);
    };
    input.addEventListener("input", () => {
      const {turn, tilt} = {...scenes.get(plot), [angle]: Number(input.value)};
      look(plot, turn, tilt);
    });
    show();
    return [element("label", {className: "lrd-slider"}, element("span", {textContent: name}), input, value), show];
  };

  document.addEventListener("lrd:drawn", ({target: plot}) => {
    const scene = scenes.get(plot);
    if (!scene) return;
    const [[turn, showTurn], [tilt, showTilt]] = [
      slider(plot, "turn", [0, 355], "turn"),
      slider(plot, "tilt", [-90, 90], "tilt"),
    ];
    scene.follow = () => {
      showTurn();
      showTilt();
    };
    let controls = plot.parentElement.querySelector(".lrd-controls");
    if (!controls) plot.after((controls = element("div", {className: "lrd-controls"})));
    controls.append(element("div", {className: "lrd-turn"}, turn, tilt));
  });

  // ---- what figures.js calls

  const legend = (data) => {
    const named = data.filter((trace) => trace.name && trace.showlegend);
    if (!named.length) return null;
    const entry = ({name, color, line, marker}) => {
      const sample = element("i");
      sample.style.background = color ?? line?.color ?? marker?.color;
      return element("span", {}, sample, name);
    };
    return element("div", {className: "lrd-key"}, ...named.map(entry));
  };

  const newPlot = async (plot, {data, layout, frames}) => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "main-svg lrd-solid");
    svg.setAttribute("width", "100%");
    svg.setAttribute("fill", "none");
    const key = legend(data);
    const {x, y, z} = layout.scene.camera.eye;
    const [turn, tilt] = [Math.atan2(y, x), Math.atan2(z, Math.hypot(x, y))].map((angle) => (angle * 180) / Math.PI);
    scenes.set(plot, {data, layout, frames, turn: (turn + 360) % 360, tilt, svg, key});
    plot.layout = layout;
    plot.on = () => {}; // no event of Plotly's comes from here
    plot.replaceChildren(...[key, svg].filter(Boolean));
    drag(plot, svg);
    render(plot);
    new ResizeObserver(() => render(plot)).observe(plot);
  };

  const relayout = async (plot, update) => {
    const {layout} = scenes.get(plot);
    for (const [path, value] of Object.entries(update)) {
      const keys = path.split(".");
      const last = keys.pop();
      keys.reduce((node, key) => (node[key] ??= {}), layout)[last] = value;
    }
    render(plot);
  };

  const animate = async (plot, names) => {
    const scene = scenes.get(plot);
    const frame = scene.frames.find(({name}) => name === names?.[0]);
    if (!frame) return;
    frame.data.forEach((trace, n) => Object.assign(scene.data[frame.traces?.[n] ?? n], trace));
    render(plot);
  };

  window.lrdSolid = {newPlot, relayout, animate};
})();
