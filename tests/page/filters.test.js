import assert from "node:assert/strict";
import { test } from "node:test";
import { Filters, filtersOf } from "../../collector/api/page/filters.js";

globalThis.matchMedia = /** @type {any} */ (() => ({ matches: false }));

/** The names of the text fields, in order. */
function fields(asked, what) {
  const found = [];
  const walk = (node) => {
    if (Array.isArray(node)) node.forEach(walk);
    else if (node && typeof node === "object") {
      if (node.props.change) found.push(node.props.name);
      walk(node.props.children);
    }
  };
  walk(Filters({ asked, facets: {}, go: () => {}, names: filtersOf(what) }));
  return found;
}

test("a filter that a link has set is shown, so that it can be seen and taken away", () => {
  for (const what of ["traces", "spans"]) {
    assert.ok(!fields({}, what).includes("version"));
    assert.ok(fields({ version: "1.2", environment: "test" }, what).join().includes("version,environment"));
  }
});
