/* Loads the lab's script and styles when a lab on this page comes near the viewport, or the address asks for one.
 *
 * A lab is <div class="lrd-lab" data-lab="recorded"> (or "train"); the files are beside the pages, in lab/.
 */
(() => {
  "use strict";

  const SITE = document.currentScript.src && new URL("..", document.currentScript.src);

  const load = () => {
    const style = Object.assign(document.createElement("link"), {rel: "stylesheet", href: new URL("lab/lab.css", SITE)});
    const script = Object.assign(document.createElement("script"), {src: new URL("lab/lab.js", SITE)});
    document.head.append(style, script);
  };

  const start = () => {
    const labs = [...document.querySelectorAll(".lrd-lab")];
    if (!labs.length || !SITE) return;
    const near = new IntersectionObserver(
      (entries) => {
        if (!entries.some(({isIntersecting}) => isIntersecting)) return;
        near.disconnect();
        load();
      },
      {rootMargin: "800px 0px"},
    );
    labs.forEach((lab) => near.observe(lab));
    const asked = () => location.hash.startsWith("#lab:") && labs[0].dataset.state === undefined && labs[0].scrollIntoView();
    window.addEventListener("hashchange", asked);
    asked();
  };

  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
