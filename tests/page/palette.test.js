import assert from "node:assert/strict";
import { test } from "node:test";
import { known } from "../../collector/api/page/palette.js";
import { forgetView, saveView, savedViews } from "../../collector/api/page/saved.js";

const stored = new Map();
globalThis.localStorage = /** @type {any} */ ({
  getItem: (name) => stored.get(name) ?? null,
  setItem: (name, value) => stored.set(name, value),
});

test("views are found by any of their words, saved ones and trace ids first", () => {
  assert.equal(known("sess", [])[0].href, "#/sessions");
  assert.equal(known("hour failed", [])[0].href, "#/traces?since=-1h&status=ERROR");
  const id = "0af7651916cd43dd8448eb211c80319c";
  assert.equal(known(` ${id} `, [])[0].href, `#/trace/${id}`);
  assert.equal(known("tra", [{ name: "My traces", hash: "#/traces?user=ann" }])[0].forget, "My traces");
  assert.deepEqual(known("nothing is called so", []), []);
});

test("saved views are kept by name, and what isn't ours is left out", () => {
  saveView("one", "#/traces");
  saveView("two", "#/sessions");
  saveView("one", "#/errors");
  assert.deepEqual(savedViews(), [
    { name: "one", hash: "#/errors" },
    { name: "two", hash: "#/sessions" },
  ]);
  forgetView("one");
  assert.equal(savedViews().length, 1);
  for (const wrong of ["no JSON", "{}", '[{"name": "x", "hash": "javascript:alert(1)"}]', "[{}]"]) {
    stored.set("sidespan.views", wrong);
    assert.deepEqual(savedViews(), []);
  }
});
