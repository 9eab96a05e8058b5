// @ts-check
// Views that somebody saved: an address with a name, in the browser's localStorage.

const KEY = "sidespan.views";
const MAX_SAVED = 100;

/** @returns {{name: string, hash: string}[]} */
export function savedViews() {
  try {
    const list = JSON.parse(localStorage.getItem(KEY) || "[]");
    return Array.isArray(list) ? list.filter(isView) : [];
  } catch {
    return []; // no storage, or not ours
  }
}

/** Other pages of this address may write there too: what isn't a view is left out. */
const isView = (each) =>
  each !== null &&
  typeof each === "object" &&
  typeof each.name === "string" &&
  typeof each.hash === "string" &&
  each.hash.startsWith("#/");

function store(views) {
  try {
    localStorage.setItem(KEY, JSON.stringify(views.slice(0, MAX_SAVED)));
    return true;
  } catch {
    return false; // storage is full or switched off
  }
}

/** Save an address by a name, in the place of what had that name; false where the browser doesn't store it. */
export const saveView = (name, hash) =>
  store([{ name, hash }, ...savedViews().filter((each) => each.name !== name)]);

export const forgetView = (name) => store(savedViews().filter((each) => each.name !== name));
