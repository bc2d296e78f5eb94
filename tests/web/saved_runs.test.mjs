import assert from "node:assert/strict";
import { test } from "node:test";

import { choices, namesIn, toggled } from "../../web/saved_runs.mjs";

test("names are read as the node reads them", () => {
  assert.deepEqual(namesIn(" one ,two,,one, "), ["one", "two"]);
  assert.deepEqual(namesIn(""), []);
});

test("choosing a run adds it at the end, and choosing it again takes it away", () => {
  assert.equal(toggled("", "one"), "one");
  assert.equal(toggled("one", "two"), "one, two");
  assert.equal(toggled("one,two, three", "two"), "one, three");
  assert.equal(toggled(toggled("one", "two"), "two"), "one");
});

test("a typed name is offered too, and marked", () => {
  assert.deepEqual(choices(["new", "old"], "old, typed"), [
    { name: "new", on: false },
    { name: "old", on: true },
    { name: "typed", on: true },
  ]);
});

test("an answer without a list offers nothing", () => {
  for (const odd of [undefined, null, "one", { 0: "one" }]) assert.deepEqual(choices(odd, ""), []);
});
