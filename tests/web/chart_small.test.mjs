import assert from "node:assert/strict";
import { test } from "node:test";

import { emptyRun } from "../../web/chart_data.mjs";
import { paintSmall } from "../../web/chart_small.mjs";

/** A canvas that writes down what is drawn on it. */
function recorder() {
  const calls = [];
  const context = new Proxy(
    {},
    { get: (_, name) => (...args) => calls.push([name, ...args]), set: () => true },
  );
  return { calls, context };
}
const BOX = { x: 10, y: 20, w: 200, h: 146 };
const run = (values) => ({
  ...emptyRun(),
  name: "r",
  steps: 4,
  records: values.map((mean, n) => ({ step: n + 1, rewards: { a: { mean } } })),
});

test("a curve goes from step to step inside its box, and its steps are said", () => {
  const { calls, context } = recorder();
  paintSmall(context, [run([0, 1, 5, -3])], BOX);
  const points = calls.filter(([name]) => name === "moveTo" || name === "lineTo");
  assert.deepEqual(points.map(([, x]) => x), [60, 110, 160, 210]);
  for (const [, , y] of points) assert.ok(y >= BOX.y && y <= BOX.y + BOX.h, String(y));
  const [, words] = calls.find(([name]) => name === "fillText");
  assert.equal(words, "step 4 of 4");
});

test("nothing yet is said, and several runs are counted", () => {
  for (const [runs, words] of [
    [[], "not run yet"],
    [[run([1]), run([0])], "2 runs"],
    [[{ ...run([1]), ended: true }], "r: step 1"],
  ]) {
    const { calls, context } = recorder();
    paintSmall(context, runs, BOX);
    assert.equal(calls.find(([name]) => name === "fillText")[1], words);
  }
});
