/* Draws a chart as SVG: axes, lines, bands, bars, dots, and a square of values on a canvas.
 *
 * A library of plots would be two thousand times as large, and redraw a moved slider in ten times the time that there
 * is. Colours of text and grid are the style sheet's, so that they follow the page by themselves.
 *
 * makePlot(box) -> {measure(), draw(axes, still, moving), move(moving), at(clientX, clientY)}: at is [x, y], the point under the pointer
 *   axes: {x: {low, high, title}, y: {low, high, title, log, words}, square}; words(value): the text of a tick
 *   shapes: {kind: "line", x, y, colour, dash, width} | {kind: "area", ...} as line | {kind: "band", x, low, high, colour}
 *     | {kind: "bars", x, y, colour} | {kind: "dot", x, y, colour} | {kind: "cursor", x}: what comes after it is pale
 *     | {kind: "image", down, across, pixels}: pixels of [red, green, blue, opacity up to 255], row by row
 */

const ROOM = {left: 46, right: 18, top: 8, bottom: 38};
const DASHES = {solid: "none", dash: "7 4", dot: "2 3"};

const svg = (tag, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

// Round numbers between low and high, about `count` of them.
const ticksOf = ({low, high, log}, count) => {
  if (log) {
    const decades = Math.floor(Math.log10(high) + 1e-9) - Math.ceil(Math.log10(low) - 1e-9);
    return Array.from({length: decades + 1}, (_, k) => 10 ** (Math.ceil(Math.log10(low) - 1e-9) + k));
  }
  const rough = (high - low) / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * unit).find((size) => size >= rough);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({length: Math.floor(high / step + 1e-9) - first + 1}, (_, k) => (first + k) * step);
};

const UPPER = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const plainWords = (value) => String(Number(value.toPrecision(6)));
const powerWords = (value) => {
  const power = Math.round(Math.log10(value));
  return power === 0 ? "1" : `10${power < 0 ? "⁻" : ""}${[...String(Math.abs(power))].map((digit) => UPPER[digit]).join("")}`;
};

const scaleOf = ({low, high, log}, from, to) => {
  const [a, b] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
  return (value) => from + (((log ? Math.log10(value) : value) - a) / (b - a)) * (to - from);
};

// "M x y L x y ...": a number that is none breaks the line.
const pathOf = (xs, ys, X, Y) => {
  let d = "";
  let pen = "M";
  for (let i = 0; i < xs.length; i += 1) {
    if (!Number.isFinite(ys[i])) pen = "M";
    else {
      d += `${pen}${X(xs[i]).toFixed(1)} ${Y(ys[i]).toFixed(1)}`;
      pen = "L";
    }
  }
  return d;
};

const SHAPES = {
  line: ({x, y, colour, dash = "solid", width = 2}, {X, Y}) =>
    svg("path", {d: pathOf(x, y, X, Y), fill: "none", stroke: colour, "stroke-width": width, "stroke-dasharray": DASHES[dash], "stroke-linejoin": "round"}),
  area: ({x, y, colour}, {X, Y, bottom}) =>
    svg("path", {d: `${pathOf(x, y, X, Y)}L${X(x.at(-1))} ${bottom}L${X(x[0])} ${bottom}Z`, fill: colour, "fill-opacity": 0.13}),
  band: ({x, low, high, colour}, {X, Y}) => {
    const known = x.map((_, i) => i).filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]));
    const around = [...known.map((i) => [x[i], high[i]]), ...known.reverse().map((i) => [x[i], low[i]])];
    const d = pathOf(around.map(([a]) => a), around.map(([, b]) => b), X, Y);
    return svg("path", {class: "lab-band", d: d && `${d}Z`, fill: colour, "fill-opacity": 0.22});
  },
  bars: ({x, y, colour}, {X, Y}) => {
    const foot = Y(0).toFixed(1);
    const bar = (k, i) => `M${X(k - 0.4).toFixed(1)} ${foot}V${Y(y[i]).toFixed(1)}H${X(k + 0.4).toFixed(1)}V${foot}Z`;
    return svg("path", {d: x.map((k, i) => (Number.isFinite(y[i]) ? bar(k, i) : "")).join(""), fill: colour});
  },
  dot: ({x, y, colour}, {X, Y}) => svg("circle", Number.isFinite(y) ? {cx: X(x), cy: Y(y), r: 4, fill: colour} : {}),
  cursor: ({x}, {X, left, w, top, bottom}) =>
    svg("g", {},
      svg("rect", {class: "lab-veil", x: X(x), y: top - 4, width: Math.max(left + w + 4 - X(x), 0), height: bottom - top + 3}),
      svg("path", {class: "lab-cursor", d: `M${X(x)} ${top}V${bottom}`})),
  image: ({down, across, pixels}, {X, Y}) => {
    const canvas = Object.assign(document.createElement("canvas"), {width: across, height: down});
    const context = canvas.getContext("2d");
    const data = context.createImageData(across, down);
    pixels.forEach((pixel, i) => data.data.set(pixel, 4 * i));
    context.putImageData(data, 0, 0);
    const [x, y, far, low] = [X(-0.5), Y(-0.5), X(across - 0.5), Y(down - 0.5)];
    return svg("image", {href: canvas.toDataURL(), x, y, width: far - x, height: low - y, preserveAspectRatio: "none", style: "image-rendering: pixelated"});
  },
};

const makePlot = (box) => {
  const frame = svg("g", {class: "lab-frame"});
  const [back, front] = [svg("g"), svg("g")];
  const picture = svg("svg", {"aria-hidden": "true"}, frame, back, front);
  box.append(picture);
  let now = null; // {axes, still, moving}
  let place = null; // the scales and the ends of the area
  let size = null; // of the box, as the browser has told it: to ask for it would have the whole page laid out

  // Asked of all boxes before the first is drawn, the page is laid out once for them.
  const measure = () => {
    const {width, height} = size ?? box.getBoundingClientRect();
    size = width ? {width, height} : null;
  };

  const layOut = ({x, y, square}) => {
    const {width, height} = size ?? box.getBoundingClientRect();
    let [w, h] = [Math.max(width - ROOM.left - ROOM.right, 10), Math.max(height - ROOM.top - ROOM.bottom, 10)];
    if (square) w = h = Math.min(w, h);
    const [left, top] = [ROOM.left, ROOM.top];
    return {width, height, w, left, top, bottom: top + h, X: scaleOf(x, left, left + w), Y: scaleOf(y, top + h, top)};
  };

  const drawFrame = ({x, y, square}) => {
    const {w, left, top, bottom, X, Y} = place;
    const across = ticksOf(x, w > 260 ? 6 : 4).map((value) => [
      svg("path", {d: square ? "" : `M${X(value)} ${top}V${bottom}`}),
      svg("text", {x: X(value), y: bottom + 15, "text-anchor": "middle"}, (x.words ?? plainWords)(value)),
    ]);
    const words = y.words ?? (y.log ? powerWords : plainWords);
    const up = ticksOf(y, 5).map((value) => [
      svg("path", {d: `M${left} ${Y(value)}H${left + w}`}),
      svg("text", {x: left - 6, y: Y(value) + 4, "text-anchor": "end"}, words(value)),
    ]);
    const name = svg("text", {x: left + w / 2, y: bottom + 32, "text-anchor": "middle"}, x.title);
    const side = y.title && svg("text", {transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, y.title);
    frame.replaceChildren(...across.flat(), ...up.flat(), name, ...(side ? [side] : []));
  };

  const shapes = (list) => list.map((shape) => SHAPES[shape.kind](shape, place));

  const draw = (axes, still, moving) => {
    now = {axes, still, moving};
    place = layOut(axes);
    picture.setAttribute("viewBox", `0 0 ${place.width} ${place.height}`);
    drawFrame(axes);
    back.replaceChildren(...shapes(still));
    front.replaceChildren(...shapes(moving));
  };
  const move = (moving) => {
    now.moving = moving;
    front.replaceChildren(...shapes(moving));
  };
  // The point under the pointer, in the units of the axes.
  const at = (clientX, clientY) => {
    const edges = box.getBoundingClientRect();
    const between = (share, {low, high}) => low + Math.min(Math.max(share, 0), 1) * (high - low);
    const {left, w, top, bottom} = place;
    return [between((clientX - edges.left - left) / w, now.axes.x), between((bottom - clientY + edges.top) / (bottom - top), now.axes.y)];
  };

  const resized = new ResizeObserver((entries) => {
    const {contentRect} = entries.at(-1);
    size = contentRect.width ? {width: contentRect.width, height: contentRect.height} : null; // it is hidden
    if (now && size && (contentRect.width !== place.width || contentRect.height !== place.height))
      draw(now.axes, now.still, now.moving);
  });
  resized.observe(box);
  return {measure, draw, move, at, remove: () => resized.disconnect()};
};
