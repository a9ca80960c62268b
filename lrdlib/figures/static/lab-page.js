/* On the page of the labs, before it is drawn: the class that lab-page.css asks for. Then the left side bar is folded by the
 * theme's own class, so that the theme's button unfolds it.
 */
(() => {
  "use strict";

  if (typeof DOCUMENTATION_OPTIONS === "undefined" || DOCUMENTATION_OPTIONS.pagename !== "lab") return;
  document.documentElement.classList.add("lrd-lab-page");
  document.addEventListener("DOMContentLoaded", () => {
    const bar = document.querySelector(".bd-sidebar-primary");
    bar?.classList.add("pst-sidebar-hidden");
    if (bar) bar.dataset.folded = "";
  });
})();
