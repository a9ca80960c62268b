/* The reader's own runs, kept in this browser: a few, as the files that Download gives. Where a browser keeps nothing for
 * this page (a private window, a frame), there are none, and nothing fails.
 */

const KEPT_MOST = 5;

const keptStore = (mode) =>
  new Promise((resolve, reject) => {
    const asked = indexedDB.open("lrdlib-lab", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("runs", {keyPath: "id"});
    asked.onerror = () => reject(asked.error);
    asked.onsuccess = () => {
      const change = asked.result.transaction("runs", mode);
      change.oncomplete = change.onabort = () => asked.result.close();
      resolve(change.objectStore("runs"));
    };
  });

const keptAnswer = (asked) =>
  new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });

// [{id, name, records, bytes}], the newest first; an id is the time at which the run began.
const keptRuns = async () => (await keptAnswer((await keptStore("readonly")).getAll())).sort((a, b) => b.id - a.id);

const forgetRun = async (id) => keptAnswer((await keptStore("readwrite")).delete(id));

// Keeps a run, newly or again, and drops the oldest beyond KEPT_MOST.
const keepRun = async (run) => {
  await keptAnswer((await keptStore("readwrite")).put(run));
  for (const {id} of (await keptRuns()).slice(KEPT_MOST)) await forgetRun(id);
};
