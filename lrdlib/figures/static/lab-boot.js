/* Loads the lab's script and styles when a lab on this page comes near the viewport, or the address asks for one.
 *
 * A lab is <div class="lrd-lab" data-lab="recorded"> (or "train"); the files are beside the pages, in lab/. The styles
 * come first, so that a lab is laid out once. On a page that was opened as a file, browsers refuse a training its parts:
 * the lab says so, and what helps.
 */
(() => {
  "use strict";

  const SITE = document.currentScript.src && new URL("..", document.currentScript.src);

  const DISK =
    "A training cannot start here, as this page was opened as a file: " +
    "run <code>make serve</code> in the repository, and open the address that it prints.";

  const load = (labs) => {
    const style = Object.assign(document.createElement("link"), {rel: "stylesheet", href: new URL("lab/lab.css", SITE)});
    const script = Object.assign(document.createElement("script"), {src: new URL("lab/lab.js", SITE)});
    script.onerror = () => labs.forEach((lab) => lab.replaceChildren("The lab's script did not come. Reload the page."));
    style.onload = style.onerror = () => document.head.append(script);
    document.head.append(style);
  };

  const refuse = (lab) => {
    lab.dataset.state = "disk";
    const said = Object.assign(document.createElement("p"), {innerHTML: DISK});
    said.setAttribute("role", "note");
    lab.replaceChildren(said);
  };

  const start = () => {
    const labs = [...document.querySelectorAll(".lrd-lab")];
    if (!labs.length || !SITE) return;
    if (SITE.protocol === "file:") labs.filter(({dataset}) => dataset.lab === "train").forEach(refuse);
    const near = new IntersectionObserver(
      (entries) => {
        if (!entries.some(({isIntersecting}) => isIntersecting)) return;
        near.disconnect();
        load(labs);
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
