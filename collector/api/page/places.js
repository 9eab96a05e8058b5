// @ts-check
// What an address names: a view, what it is about, and parameters. Pure.

/**
 * {name, id, parameters} of the address behind `#`, "" if no view is called so; a repeated parameter becomes a list.
 * @param {string} hash
 * @param {string[]} names of the views
 */
export function placeOf(hash, names) {
  const old = /^#trace=(.*)$/.exec(hash); // the form that earlier versions of the page used
  if (old) return { name: "trace", id: decoded(old[1]), parameters: {} };
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [name, ...rest] = path.split("/");
  const known = names.includes(name);
  return {
    name: known ? name : "",
    id: known ? decoded(rest.join("/")) : "",
    parameters: parametersOf(query),
  };
}

function parametersOf(query) {
  const all = new URLSearchParams(query);
  return Object.fromEntries(
    [...new Set(all.keys())].map((name) => {
      const values = all.getAll(name);
      return [name, values.length > 1 ? values : values[0]];
    }),
  );
}

/** A sign of percent that encodes nothing stays as it is. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
