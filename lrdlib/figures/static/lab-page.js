/* Folds the left side bar on the page of the recorded lab, by the theme's own class: its button unfolds it again. */
(() => {
  "use strict";

  document.addEventListener("DOMContentLoaded", () => {
    const bar = document.querySelector(".lrd-lab[data-lab='recorded']") && document.querySelector(".bd-sidebar-primary");
    if (!bar) return;
    bar.classList.add("pst-sidebar-hidden");
    bar.dataset.folded = "";
  });
})();
