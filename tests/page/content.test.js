// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { aligned } from "../../collector/api/page/beside.js";
import { Messages } from "../../collector/api/page/chat.js";
import { Markdown, isImageData, safeAddress } from "../../collector/api/page/markdown.js";
import { plainOf } from "../../collector/api/page/span.js";
import { isCut, parsed, read } from "../../collector/api/page/values.js";
import { placesOf, visible } from "../../collector/api/page/waterfall.js";

const span = (span_id, depth, name = span_id) => ({ span_id, depth, name });

/** The elements that a text becomes: [tag, properties]; texts among them are left out. */
function elements(node, found = []) {
  if (Array.isArray(node)) node.forEach((each) => elements(each, found));
  else if (node && typeof node === "object") {
    const { type, props } = node;
    if (typeof type === "function") elements(type(props), found);
    else {
      found.push([type, props]);
      elements(props.children, found);
    }
  }
  return found;
}
const tags = (text) => elements(Markdown({ text })).map(([tag]) => tag);

test("markdown becomes elements", () => {
  for (const [text, tag] of [
    ["**a**", "strong"],
    ["*a*", "em"],
    ["~~a~~", "del"],
    ["`a`", "code"],
    ["```js\na\n```", "pre"],
    ["- a\n  1. b", "ol"],
    ["> a", "blockquote"],
    ["| a |\n| - |\n| b |", "td"],
    ["---", "hr"],
    ["[a](https://example.com)", "a"],
  ])
    assert.ok(tags(text).includes(tag), text);
});

test("nothing in markdown becomes HTML, loads from another host or leads anywhere but the web and mail", () => {
  for (const text of [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "a <b onclick=x>b</b> <iframe src=//x></iframe>",
    "![a](https://example.com/a.png)",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](data:text/html,x) <javascript:alert(1)>",
    "[a][b]\n\n[b]: vbscript:x",
    "![a](data:image/svg+xml;base64,PHN2Zz4=)",
  ]) {
    const found = elements(Markdown({ text }));
    assert.ok(
      found.every(([tag]) => ["div", "p", "span", "a", "br"].includes(tag)),
      `${text}: ${found.map(([tag]) => tag)}`,
    );
    for (const [tag, { href, rel }] of found)
      if (tag === "a") assert.ok(/^(https?|mailto):/.test(href) && rel.includes("noopener"), text);
  }
});

test("the title of a link hides nowhere where it leads", () => {
  const [, , [, { title }]] = elements(
    Markdown({ text: '[bank](https://evil.example "https://bank.example")' }),
  );
  assert.ok(title.includes("https://evil.example"), title);
});

test("a role is shown whatever it is called", () => {
  for (const role of ["constructor", "__proto__", "toString", "critic"]) {
    const [, li] = elements(Messages({ messages: [{ role, parts: [] }] }));
    assert.ok(li[1].class.includes("other"), role);
    assert.ok(JSON.stringify(li[1]).includes(JSON.stringify(role)), role);
  }
});

test("a long text of many underscores is not read for long", () => {
  assert.deepEqual(tags("_a".repeat(30000)), ["div", "pre"]);
});

test("markdown that is nested without end or too long is shown as it is", () => {
  assert.ok(tags(">".repeat(5000)).length < 100);
  assert.deepEqual(tags("a".repeat(200000)), ["div", "pre"]);
});

test("only addresses of the web and of mail are links", () => {
  assert.equal(safeAddress("https://example.com/a"), "https://example.com/a");
  assert.equal(safeAddress("mailto:a@example.com"), "mailto:a@example.com");
  for (const text of ["javascript:x", " javascript:x", "data:text/html,x", "file:///x", "/x", "//x", "x", ""])
    assert.equal(safeAddress(text), null, text);
  assert.ok(isImageData("data:image/png;base64,iVBORw0="));
  assert.ok(!isImageData("data:image/svg+xml;base64,PHN2Zz4="));
});

test("JSON is read, with whole numbers of any size", () => {
  assert.deepEqual(parsed('{"a": [1, 2.5]}'), { a: [1, 2.5] });
  assert.equal(parsed("[1"), undefined);
  assert.equal(parsed("plain"), undefined);
  assert.equal(String(read("[12345678901234567890]")[0].source), "12345678901234567890");
});

test("spans know their parent, their place among siblings and what is below", () => {
  const spans = [span("a", 0), span("b", 1), span("c", 2), span("d", 1), span("e", 0)];
  const places = placesOf(spans);
  assert.deepEqual(places.get("a"), { parent: "", position: 1, siblings: 2, children: 2, below: 3 });
  assert.deepEqual(places.get("d"), { parent: "a", position: 2, siblings: 2, children: 0, below: 0 });
  const ids = (closed) => visible(spans, new Set(closed)).map((each) => each.span_id);
  assert.deepEqual(ids([]), ["a", "b", "c", "d", "e"]);
  assert.deepEqual(ids(["b"]), ["a", "b", "d", "e"]);
  assert.deepEqual(ids(["a", "b"]), ["a", "e"]);
});

test("two traces are aligned by the names down to a span, and the order of both is kept", () => {
  const rows = aligned(
    [span("1", 0, "run"), span("2", 1, "chat"), span("3", 1, "look"), span("4", 1, "chat")],
    [
      span("5", 0, "run"),
      span("6", 1, "chat"),
      span("7", 2, "call"),
      span("8", 1, "chat"),
      span("9", 1, "end"),
    ],
  );
  assert.deepEqual(
    rows.map(({ a, b }) => [a?.span_id, b?.span_id]),
    [
      ["1", "5"],
      ["2", "6"],
      [undefined, "7"],
      ["3", undefined],
      ["4", "8"],
      [undefined, "9"],
    ],
  );
});

test("an object of a sender that looks like the page's own mark stays an object", () => {
  for (const text of ['{"an exact number": "no number"}', '{"an exact number": {"toString": 1}}']) {
    assert.deepEqual(read(text), JSON.parse(text));
    JSON.stringify(read(text));
  }
});

test("a text that only looks like JSON is given up at once, however long", { timeout: 20_000 }, () => {
  assert.equal(parsed(`{"1234567890123456${'\\"'.repeat(500_000)}`), undefined);
});

test("whether a text is cut is counted as the service counts, an emoji as one character", () => {
  assert.ok(!isCut({ text: '{"a": "😀😀"}', characters: 11 }));
  assert.ok(isCut({ text: "😀😀", characters: 3 }));
  assert.ok(!isCut({ text: "abc", characters: 3 }));
});

test("attributes may have any name", () => {
  const said = (text) => ({ text, characters: text.length, is_json: false });
  const attributes = JSON.parse(
    JSON.stringify({ characters: said("a"), text: said("b"), is_json: said("c") }).replace(
      "{",
      '{"__proto__": null, ',
    ),
  );
  const plain = plainOf({ name: "x", attributes });
  assert.deepEqual(Object.entries(plain.attributes), [
    ["__proto__", null],
    ["characters", "a"],
    ["text", "b"],
    ["is_json", "c"],
  ]);
});

test(
  "a trace that is one long chain is laid out and aligned as fast as any other",
  { timeout: 20_000 },
  () => {
    const chain = Array.from({ length: 30_000 }, (_, depth) => span(`s${depth}`, depth, "step"));
    assert.equal(placesOf(chain).get("s0").below, 29_999);
    const rows = aligned(chain, chain.slice(0, -1));
    assert.equal(rows.length, 30_000);
    assert.ok(rows.slice(0, -1).every(({ a, b }) => a === b) && !rows.at(-1).b);
  },
);
