import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { follow } from "../../collector/api/page/live.js";

/** @type {any[]} */
const opened = [];
globalThis.EventSource = /** @type {any} */ (
  class extends EventTarget {
    static CLOSED = 2;
    readyState = 1;
    constructor(address) {
      super();
      this.address = address;
      opened.push(this);
    }
    close() {
      this.readyState = 2;
    }
  }
);

test("a stream that ended right after a change is opened again, but not once another view is followed", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let changes = 0;
  const fail = (stream) => {
    stream.dispatchEvent(new Event("trace"));
    stream.readyState = 2;
    stream.dispatchEvent(new Event("error"));
  };
  follow({ name: "a" }, () => (changes += 1));
  fail(opened[0]);
  mock.timers.tick(31000);
  assert.equal(changes, 1);
  assert.equal(opened.length, 2);
  fail(opened[1]);
  mock.timers.tick(1000);
  follow({ name: "b" }, () => {});
  mock.timers.tick(60000);
  assert.deepEqual(
    opened.map(({ address }) => address),
    ["traces/live?name=a", "traces/live?name=a", "traces/live?name=b"],
  );
  mock.timers.reset();
});
