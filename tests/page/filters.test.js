import assert from "node:assert/strict";
import { test } from "node:test";
import { filtersOf, shownFields } from "../../collector/api/page/filters.js";

const fields = (asked, what) => shownFields(asked, filtersOf(what)).map(([name]) => name);

test("a filter that a link has set is shown, so that it can be seen and taken away", () => {
  for (const what of ["traces", "spans"]) {
    assert.ok(!fields({}, what).includes("version"));
    assert.ok(fields({ version: "1.2", environment: "test" }, what).join().includes("version,environment"));
  }
});
