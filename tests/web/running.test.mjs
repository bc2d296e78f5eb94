import assert from "node:assert/strict";
import { test } from "node:test";

import { entriesOf, newestResult } from "../../web/past_results.mjs";
import { Running } from "../../web/running.mjs";

const FIRST = "5b720c67-0000-4000-8000-000000000001";
const SECOND = "5b720c67-0000-4000-8000-000000000002";
const step = (number) => ({ step: number, rewards: { a: { mean: 0.5 } } });
const about = { node: "8", workflow: FIRST, run: "r", steps: 9 };

test("a message belongs to the workflow that was queued, whichever is open when it comes", () => {
  const running = new Running();
  running.tell({ ...about, past: [step(1), step(2)] });
  running.tell({ ...about, record: step(3) });
  assert.equal(running.at(SECOND, ["8"]), null);
  assert.equal(running.at(undefined, ["8"]), null);
  assert.equal(running.at(FIRST, ["9"]), null);
  assert.deepEqual(
    running.at(FIRST, ["8"]).records.map((one) => one.step),
    [1, 2, 3],
  );
});

test("two trainings of one graph are two runs", () => {
  const running = new Running();
  running.tell({ ...about, record: step(1) });
  running.tell({ ...about, node: "9", run: "s", record: step(5) });
  assert.equal(running.at(FIRST, ["8"]).name, "r");
  assert.equal(running.at(FIRST, ["9"]).name, "s");
});

test("of a node with two places the run is shown that was told of last", () => {
  const running = new Running();
  const places = ["7:3", "8:3"];
  running.tell({ ...about, node: "7:3", run: "one" });
  running.tell({ ...about, node: "8:3", run: "two" });
  assert.equal(running.at(FIRST, places).name, "two");
  running.tell({ ...about, node: "7:3", run: "one", record: step(1) });
  assert.equal(running.at(FIRST, places).name, "one");
});

test("graphs without an id of their own are one", () => {
  const running = new Running();
  running.tell({ ...about, workflow: null });
  for (const id of [undefined, "", "00000000-0000-0000-0000-000000000000"])
    assert.equal(running.at(id, ["8"])?.name, "r");
  assert.equal(running.at(FIRST, ["8"]), null);
});

test("an end is told in a word, and a new run begins anew", () => {
  const running = new Running();
  running.tell({ ...about, record: step(1) });
  const { run } = running.tell({ ...about, phase: "stopped", ended: true });
  assert.deepEqual([run.phase, run.ended, run.records.length], ["stopped", true, 1]);
  running.tell({ ...about, run: "r-2", phase: "reading the model" });
  const next = running.at(FIRST, ["8"]);
  assert.deepEqual([next.ended, next.records.length], [false, 0]);
  assert.equal(running.tell({ ...about, run: "r-2", phase: "", ended: true }).run.phase, "");
});

test("a lost connection is said of what still runs alone", () => {
  const running = new Running();
  running.tell({ ...about, record: step(1) });
  running.tell({ ...about, node: "9", phase: "", ended: true });
  running.lose();
  assert.equal(running.at(FIRST, ["8"]).phase, "no connection");
  assert.equal(running.at(FIRST, ["9"]).phase, "");
});

test("the oldest are forgotten, and what has a result", () => {
  const running = new Running();
  for (let node = 0; node < 100; node++) running.tell({ ...about, node: String(node) });
  assert.equal(running.at(FIRST, ["0"]), null);
  assert.equal(running.at(FIRST, ["99"]).name, "r");
  running.forget(FIRST, ["99"]);
  assert.equal(running.at(FIRST, ["99"]), null);
});

test("hostile messages do no harm", () => {
  const running = new Running();
  for (const message of [null, undefined, 1, "x", [], { workflow: {}, node: {}, past: 3 }])
    running.tell(message);
});

const entry = (number, id, outputs, graph = { 3: { class_type: "GDPOChat" } }) => ({
  prompt: [number, "p", graph, { extra_pnginfo: { workflow: { id } } }],
  outputs,
});

test("the newest result of a node of this workflow is found", () => {
  const history = {
    a: entry(1, FIRST, { 3: { text: ["old"] } }),
    b: entry(3, SECOND, { 3: { text: ["other"] } }),
    c: entry(2, FIRST, { 3: { text: ["new"] } }),
    d: entry(4, FIRST, {}),
    e: entry(5, FIRST, { 3: { text: ["another node"] } }, { 3: { class_type: "KSampler" } }),
    f: null,
  };
  const entries = entriesOf(history, FIRST);
  assert.equal(entries.length, 4);
  assert.deepEqual(newestResult(entries, ["3"], "GDPOChat"), { text: ["new"] });
  assert.equal(newestResult(entries, ["4"], "GDPOChat"), undefined);
  assert.deepEqual(entriesOf(history, "00000000-0000"), []);
  assert.deepEqual(entriesOf(null, FIRST), []);
});

test("a result in a subgraph is found by any of its places", () => {
  const history = {
    a: entry(1, FIRST, { "8:3": { text: ["x"] } }, { "8:3": { class_type: "GDPOChat" } }),
  };
  const found = newestResult(entriesOf(history, FIRST), ["7:3", "8:3"], "GDPOChat");
  assert.deepEqual(found, { text: ["x"] });
});
