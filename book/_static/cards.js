/* What a link leads to, in a card beside it: a term, a formula, a theorem, an exercise, a work; here or on another page.
 *
 * It comes when a mouse or the focus rests on the link, stays while either is on the link or the card, and goes by
 * Escape. A finger follows the link. Pages that were opened as files show what is on the same page.
 */
(() => {
  "use strict";

  const LINKS = 'main a.internal[href*="#"]';
  const SHOWN = "dt, .math, .admonition, .citation"; // what a card can show
  const REST = 250; // milliseconds for which the mouse rests before a card comes, and is away before it goes
  const GAP = 6; // between the link and the card, in CSS pixels

  const pages = new Map(); // address -> promise of the page

  const page = (address) => {
    if (address === location.href.split("#")[0]) return Promise.resolve(document);
    if (location.protocol === "file:") return Promise.resolve(null);
    if (!pages.has(address)) {
      const read = (text) => new DOMParser().parseFromString(text, "text/html");
      pages.set(address, fetch(address).then(async (answer) => (answer.ok ? read(await answer.text()) : null)));
    }
    return pages.get(address);
  };

  // What the link leads to, as a copy that brings no second id and no control along; null if a card cannot show it.
  const content = async (link) => {
    const [address, id] = link.href.split("#");
    const place = (await page(address))?.getElementById(decodeURIComponent(id));
    const found = place?.matches("span:empty") ? place.nextElementSibling : place; // a label of its own
    if (!found?.matches(SHOWN)) return null;
    const parts = found.matches("dt") ? [found, found.nextElementSibling] : [found];
    const copies = parts.map((part) => document.importNode(part, true));
    for (const copy of copies) {
      copy.querySelectorAll("script, button, .headerlink, .lrd-figure").forEach((node) => node.remove());
      [copy, ...copy.querySelectorAll("[id]")].forEach((node) => node.removeAttribute("id"));
    }
    return copies;
  };

  const card = Object.assign(document.createElement("div"), {className: "lrd-card", id: "lrd-card", hidden: true});
  card.setAttribute("role", "tooltip");
  let shown = null; // the link whose card it is
  let next = 0; // the timer of what comes next

  const hide = () => {
    shown?.removeAttribute("aria-describedby");
    shown = null;
    card.hidden = true;
  };

  const show = async (link) => {
    const parts = await content(link).catch(() => null);
    if (!parts || !link.matches(":hover, :focus-visible")) return;
    hide();
    card.replaceChildren(...parts);
    card.hidden = false;
    const [box, {offsetWidth: width, offsetHeight: height}] = [link.getClientRects()[0], card];
    const below = box.bottom + GAP + height < innerHeight || box.top < height + GAP;
    card.style.top = `${scrollY + (below ? box.bottom + GAP : box.top - GAP - height)}px`;
    card.style.left = `${scrollX + Math.max(8, Math.min(box.left, document.documentElement.clientWidth - width - 8))}px`;
    link.setAttribute("aria-describedby", card.id);
    shown = link;
  };

  const later = (what, ...values) => {
    clearTimeout(next);
    next = setTimeout(what, REST, ...values);
  };

  const start = () => {
    document.body.append(card);
    for (const link of document.querySelectorAll(LINKS)) {
      if (link.title) link.removeAttribute("title"); // the browser's own card, with less in it
      link.addEventListener("pointerenter", ({pointerType}) => pointerType === "mouse" && link !== shown && later(show, link));
      link.addEventListener("pointerleave", () => later(hide));
      link.addEventListener("focus", () => link.matches(":focus-visible") && later(show, link));
      link.addEventListener("blur", () => later(hide));
    }
    card.addEventListener("pointerenter", () => clearTimeout(next));
    card.addEventListener("pointerleave", () => later(hide));
    document.addEventListener("keydown", ({key}) => {
      if (key !== "Escape") return;
      clearTimeout(next);
      hide();
    });
  };

  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
