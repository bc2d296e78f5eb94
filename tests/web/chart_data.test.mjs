import assert from "node:assert/strict";
import { test } from "node:test";

import * as data from "../../web/chart_data.mjs";
import * as record from "../../web/record.mjs";
import * as text from "../../web/chart_text.mjs";

const step = (number, mean = 0.5, more = {}) => ({
  step: number,
  rewards: { a: { mean } },
  ...more,
});
const evaluation = (number, mean) => ({
  step: number,
  eval: { rewards: { a: { mean, standard_error: 0.1 } } },
});

test("an evaluation joins its step", () => {
  const records = [step(1), evaluation(1, 0.7)].reduce(record.withRecord, []);
  assert.equal(records.length, 1);
  assert.equal(records[0].rewards.a.mean, 0.5);
  assert.equal(records[0].eval.rewards.a.mean, 0.7);
});

test("a step that is made again drops its evaluation and what came after", () => {
  const before = [evaluation(0, 0.1), step(1), step(2), evaluation(2, 0.9), step(3)].reduce(
    record.withRecord,
    [],
  );
  const records = record.withRecord(before, step(2, 0.25));
  assert.deepEqual(
    records.map((one) => one.step),
    [0, 1, 2],
  );
  assert.deepEqual(records[2], step(2, 0.25));
});

test("records without a step are left out", () => {
  assert.deepEqual([null, {}, { step: "1" }, { step: NaN }].reduce(record.withRecord, []), []);
});

test("no more than the newest records are kept", () => {
  let records = [];
  for (let n = 1; n <= record.MAX_RECORDS + 5; n++) records = record.withRecord(records, step(n));
  assert.equal(records.length, record.MAX_RECORDS);
  assert.equal(records[0].step, 6);
});

test("a message with the past replaces what was known, others add to it", () => {
  const about = { node: "8", run: "r", steps: 9 };
  const first = data.told(data.emptyRun(), {
    ...about,
    past: [step(1)],
    phase: "sampling",
    findings: ["f"],
  });
  const second = data.told(first, { ...about, record: step(2), findings: [], sample: { step: 2 } });
  assert.deepEqual(
    second.records.map((one) => one.step),
    [1, 2],
  );
  assert.deepEqual([first.findings, second.findings], [["f"], []]);
  assert.equal(second.phase, "sampling");
  const reloaded = data.told(second, { ...about, past: [step(1), step(2), step(3)] });
  assert.equal(reloaded.records.length, 3);
});

test("a message of another run begins anew", () => {
  const one = data.told(data.emptyRun(), { run: "r", steps: 9, record: step(1), findings: ["f"] });
  const other = data.told(one, { run: "s", steps: 9, record: step(1) });
  assert.deepEqual([other.name, other.records.length, other.findings], ["s", 1, []]);
});

test("the count of an evaluation is told, that of steps is not", () => {
  const at = (phase) =>
    data.told(data.emptyRun(), { run: "r", steps: 9, phase, done: 3, total: 24 }).phase;
  assert.equal(at("evaluating"), "evaluating 3 of 24");
  assert.equal(at("checking"), "checking 3 of 24");
  assert.equal(at("updating"), "updating");
});

test("a result and its events give the same curves", () => {
  const records = [evaluation(0, 0.1), step(1), step(2)];
  const about = { run: "r", steps: 2 };
  const result = data.finished({ ...about, records, findings: [], sample: null });
  const followed = records.reduce(
    (run, record) => data.told(run, { ...about, record }),
    data.emptyRun(),
  );
  assert.deepEqual(followed.records, result.records);
});

test("rewards keep the order of their first occurrence, held-out ones too", () => {
  const run = { ...data.emptyRun(), records: [{ step: 0, eval: { rewards: { b: {} } } }, step(1)] };
  assert.deepEqual(data.rewardNames([run]), ["b", "a"]);
});

test("series hold null for what is absent or no number", () => {
  const records = [step(1, 0.5), step(2, null), step(3, "0.5"), { step: 4 }];
  assert.deepEqual(data.series(records, "rewards", "a", "mean"), [0.5, null, null, null]);
});

test("smoothing averages neighbours and keeps gaps", () => {
  assert.deepEqual(data.smooth([0, 3, 6, null, 2]), [1.5, 3, 4.5, null, 2]);
});

test("conflicts are the mean of the last quarter, cell by cell", () => {
  const records = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.1, 0.3].map((c, n) => ({
    step: n,
    cosines: [
      [1, c],
      [c, 1],
    ],
  }));
  const [[, cosine]] = data.meanCosines(records, 2);
  assert.ok(Math.abs(cosine - 0.2) < 1e-12); // (0.1 + 0.3) / 2
  assert.equal(data.meanCosines(records, 3), null);
  assert.equal(data.meanCosines([], 2), null);
});

test("time left is the typical step's times the steps that are left", () => {
  const seconds = [2, 2, 50].map((total, n) => step(n + 1, 0, { seconds: { total } }));
  const run = { ...data.emptyRun(), steps: 13, records: seconds };
  assert.equal(text.timeLeft(run), 20); // 10 steps of 2 s: one slow step does not count
  assert.equal(text.timeLeft({ ...run, ended: true }), null);
  assert.equal(text.timeLeft(data.emptyRun()), null);
});

test("how a run stands", () => {
  const run = { ...data.emptyRun(), steps: 4, records: [step(2)], phase: "sampling" };
  assert.equal(text.standing(run), "step 2 of 4 · sampling");
  assert.equal(text.standing({ ...run, phase: "stopped", ended: true }), "stopped at step 2 of 4");
  assert.equal(text.standing({ ...run, steps: 2, phase: "", ended: true }), "finished, 2 steps");
  const converged = [step(2, 1, { converged: true })];
  assert.equal(
    text.standing({ ...run, records: converged, phase: "", ended: true }),
    "converged at step 2 of 4",
  );
});

test("numbers are short and durations are in the largest unit that says enough", () => {
  const numbers = [null, 0, 0.5, -0.25, 12.34, 567.8, 12345, 0.0004, -0.0004].map(
    text.formatNumber,
  );
  const expected = ["–", "0.00", "0.50", "−0.25", "12.3", "568", "12\u202f345", "4e−4", "−4e−4"];
  assert.deepEqual(numbers, expected);
  assert.deepEqual([4, 59, 90, 3600, 5400].map(text.formatDuration), [
    "4 s",
    "59 s",
    "2 min",
    "1 h 0 min",
    "1 h 30 min",
  ]);
  assert.deepEqual([0.5, -0.5, -0.001, null].map(text.formatCosine), [
    "+0.50",
    "−0.50",
    "0.00",
    "–",
  ]);
});

test("hovering shows each reward and then the rest", () => {
  const shown = step(1, 0.5, { weights: { a: 0.25 }, truncated: 0.125, length: { mean: 20 } });
  const rows = text.rowsAt(shown, ["a"]);
  assert.deepEqual(rows[0], { reward: 0, cells: ["a", "0.50", "–", "0.25"] });
  assert.deepEqual(
    rows.slice(1).map((row) => row.cells.join(" ")),
    ["dispersion –", "length 20.0", "truncated 13 %", "tokens/s –"],
  );
});

test("hovering a natural step shows the signal of each reward, and how far the step went", () => {
  const signals = { a: 0.456, b: null };
  const shown = step(1, 0.5, { signals, step_kl: 0.3, step_kl_measured: 0.28 });
  assert.deepEqual(text.columnsAt(shown), ["training", "held-out", "weight", "signal"]);
  assert.deepEqual(text.columnsAt(step(1)), ["training", "held-out", "weight"]);
  const [a, b, ...rest] = text.rowsAt(shown, ["a", "b"]);
  assert.deepEqual(a.cells, ["a", "0.50", "–", "–", "46 %"]);
  assert.deepEqual(b.cells, ["b", "–", "–", "–", "–"]);
  assert.deepEqual(
    rest.slice(-2).map((row) => row.cells.join(" ")),
    ["step, predicted 0.30", "step, measured 0.28"],
  );
});

test("two rewards are described by their cosine and the area between them", () => {
  assert.equal(
    text.aboutPair("a", "b", -0.6),
    "a and b work against each other (cosine −0.60, area 0.80)",
  );
  assert.equal(
    text.aboutPair("a", "b", 0),
    "a and b leave each other alone (cosine 0.00, area 1.00)",
  );
  assert.equal(text.aboutPair("a", "b", 1), "a and b pull together (cosine +1.00, area 0.00)");
});
