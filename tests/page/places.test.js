import assert from "node:assert/strict";
import { test } from "node:test";
import { placeOf } from "../../collector/api/page/places.js";

const NAMES = ["", "traces", "trace", "session"];
const read = (hash) => placeOf(hash, NAMES);

test("an address names a view, what it is about, and parameters", () => {
  assert.deepEqual(read("#/traces?agent=a&agent=b&since=-1h"), {
    name: "traces",
    id: "",
    parameters: { agent: ["a", "b"], since: "-1h" },
  });
  assert.deepEqual(read("#/session/a%2Fb%3Fc"), { name: "session", id: "a/b?c", parameters: {} });
  assert.deepEqual(read("#trace=0af7"), { name: "trace", id: "0af7", parameters: {} });
});

test("an address that is broken or hostile names a view all the same", () => {
  for (const hash of ["", "#", "#/", "#main", "#/constructor", "#/__proto__/x", "#/toString?a=b"])
    assert.equal(read(hash).name, "", hash);
  assert.equal(read("#/trace/100%").id, "100%");
  assert.equal(read("#trace=%E0%A4%A").id, "%E0%A4%A");
});

test("parameters may be called anything", () => {
  const { parameters } = read("#/traces?constructor=a&__proto__=b&toString=c");
  assert.deepEqual(Object.entries(parameters), [
    ["constructor", "a"],
    ["__proto__", "b"],
    ["toString", "c"],
  ]);
});
