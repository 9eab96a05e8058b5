import assert from "node:assert/strict";
import { test } from "node:test";
import { session, sessionPath } from "../../collector/api/page/session.js";

const asked = (id) => new URL(sessionPath(id), "http://service/-/").pathname;

test("a session is asked for under its own path, whatever it is called", () => {
  assert.equal(asked("chat/1"), "/-/sessions/chat/1");
  assert.equal(asked("a b?c#d"), "/-/sessions/a%20b%3Fc%23d");
  for (const id of ["../traces", "../../api/2.0/x", "a/../../b", "./a", "%2e%2e/a"])
    assert.ok(asked(id).startsWith("/-/sessions/"), `${id}: ${asked(id)}`);
  assert.equal(decodeURIComponent(asked("../traces")), "/-/sessions/../traces");
  for (const id of [".", ".."]) assert.throws(() => sessionPath(id), /no address/);
});

test("a session in two experiments shows the figures of both", () => {
  const sums = { turns: 1, errors: 0, agents: [], cost_usd: 1, user: null };
  const sessions = ["1", "2"].map((id) => ({ ...sums, experiment_id: id, experiment_name: id }));
  const shown = JSON.stringify(session.Show({ id: "a", data: { sessions, turns: [], turns_omitted: 0 } }));
  assert.deepEqual(
    [...shown.matchAll(/"sums":\{.*?"experiment_id":"(\d)"/g)].map(([, id]) => id),
    ["1", "2"],
  );
});
