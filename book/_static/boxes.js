/* A box that scrolls can be scrolled by keyboard. In place of the theme's own way, which lays the page out anew for each
 * box (website.py): here all that are seen are asked first, and those that are folded away when nothing else is going on.
 */
(() => {
  "use strict";

  const BOXES = "pre, .nboutput > .output_area, .cell_output > .output, .jp-RenderedHTMLCommon, .pst-scrollable-table-container";
  const idle = window.requestIdleCallback ?? setTimeout;

  const mark = (boxes) => {
    const asked = boxes.map((box) => [box, box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight]);
    for (const [box, scrolls] of asked) box.tabIndex = scrolls ? 0 : -1;
  };

  const markAll = () => {
    const boxes = [...document.querySelectorAll(BOXES)];
    const seen = new Set(boxes.filter((box) => box.checkVisibility?.() ?? true));
    mark([...seen]);
    for (const box of boxes) if (!seen.has(box)) idle(() => mark([box]));
  };

  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(markAll, 300);
  };

  const start = () => {
    markAll();
    window.addEventListener("resize", later);
    new MutationObserver(later).observe(document.getElementById("main-content"), {subtree: true, childList: true});
  };

  document.readyState === "complete" ? start() : window.addEventListener("load", start);
})();
