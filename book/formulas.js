/* Typesets formulas for book/formulas.py, by MathJax under node.
 *
 * node book/formulas.js FOLDER MACROS   FOLDER is MathJax's es5, MACROS are as in its tex.macros (JSON)
 *
 * Each line of input is a question in JSON, each line of output its answer, in the same order:
 * {"tex", "display"} -> {"html"} or {"error"}; {"fonts": address} -> {"css"}, the style sheet of all formulas so far.
 */
const [folder, macros] = process.argv.slice(2);
const MathJax = require(`${folder}/node-main.js`);

const settings = {
  loader: {load: ["adaptors/liteDOM", "input/tex-full", "output/chtml", "a11y/assistive-mml"], versionWarnings: false},
  tex: {
    tags: "none",
    macros: JSON.parse(macros),
    packages: {"[-]": ["noundefined"]}, // a macro that nobody knows is an error
    formatError: (_, error) => {
      throw error;
    },
  },
  chtml: {fontURL: "fonts:", matchFontHeight: false},
};

MathJax.init(settings).then(({startup: {adaptor}, tex2chtml, chtmlStylesheet}) => {
  const answer = ({tex, display, fonts}) => {
    if (fonts) return {css: adaptor.textContent(chtmlStylesheet()).replaceAll("fonts:", fonts)};
    try {
      return {html: adaptor.outerHTML(tex2chtml(tex, {display}))};
    } catch (error) {
      return {error: error.message};
    }
  };
  const lines = require("readline").createInterface({input: process.stdin});
  lines.on("line", (line) => process.stdout.write(`${JSON.stringify(answer(JSON.parse(line)))}\n`));
});
