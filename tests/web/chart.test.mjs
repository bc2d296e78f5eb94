import assert from "node:assert/strict";
import { test } from "node:test";

import { crosshair, drawChart, recordAt } from "../../web/chart.mjs";
import { COLOURS, MARKERS, emptyRun } from "../../web/chart_data.mjs";
import { cut } from "../../web/chart_frame.mjs";
import * as shapes from "../../web/chart_shapes.mjs";
import { socketsWanted } from "../../web/socket_count.mjs";

const WHITE = "rgb(255, 255, 255)";
const DARK = "rgb(23, 23, 24)";

/** A run of `count` steps with `rewards` rewards. */
function made(count, rewards, name = "run") {
  const names = Array.from({ length: rewards }, (_, n) => `reward ${n}`);
  const each = (value) => Object.fromEntries(names.map((one, n) => [one, value(n)]));
  const records = Array.from({ length: count }, (_, n) => ({
    step: n + 1,
    rewards: each((k) => ({ mean: (n + k) / (count + rewards) })),
    ...(n % 5 ? {} : { eval: { rewards: each(() => ({ mean: 0.5, standard_error: 0.05 })) } }),
    weights: each(() => 1 / rewards),
    preferences: each(() => 1 / rewards),
    cosines: names.map((_, i) => names.map((_, j) => (i === j ? 1 : -0.5))),
    dispersion: 0.6,
    dispersion_floor: 0.7,
    length: { mean: 20 + n },
    truncated: 0.1,
  }));
  return { ...emptyRun(), name, steps: count, records };
}

function* all(shape) {
  yield shape;
  for (const child of shape.children) if (typeof child !== "string") yield* all(child);
}

const drawn = (runs, ground = WHITE) => drawChart(runs, 420, 380, ground);
const texts = (drawing) =>
  [...all(drawing.shape)].filter((one) => one.tag === "text").map((one) => one.children[0]);

/** The same run of natural steps: half of what was predicted came. */
const natural = (run, kl = 0.4) => ({
  ...run,
  records: run.records.map((one) => ({ ...one, step_kl: kl, step_kl_measured: kl / 2 })),
});

/** Each plot has an area of its own within the chart. */
function assertApart(drawing, width) {
  const boxes = drawing.plots;
  for (const one of boxes)
    for (const other of boxes)
      if (one !== other)
        assert.ok(
          one.x + one.w <= other.x ||
            other.x + other.w <= one.x ||
            one.y + one.h <= other.y ||
            other.y + other.h <= one.y,
        );
  for (const box of boxes)
    assert.ok(
      box.x >= 0 && box.w > 40 && box.x + box.w <= width && box.y + box.h <= drawing.height,
    );
}

test("all panels are there, each on an area of its own", () => {
  const drawing = drawn([made(20, 3)]);
  for (const title of ["Rewards", "Weights", "Conflicts", "Dispersion", "Length", "Truncated"])
    assert.ok(texts(drawing).includes(title), title);
  assert.ok(!texts(drawing).includes("Step"));
  assert.equal(drawing.plots.length, 5);
  assertApart(drawing, 420);
});

for (const width of [260, 359, 360, 420])
  test(`natural steps have a panel too, in a chart ${width} pixels wide`, () => {
    const drawing = drawChart([made(20, 3, "plain"), natural(made(20, 3))], width, 380, WHITE);
    assert.ok(texts(drawing).includes("Step"));
    assert.equal(drawing.plots.length, 6);
    assertApart(drawing, width);
  });

test("a step's divergence is drawn as predicted and as measured, predicted of one run alone", () => {
  const heights = (runs) => {
    const drawing = drawn(runs);
    const box = drawing.plots.at(-1);
    const tops = [...all(drawing.shape)]
      .map((one) => /^M(\S+) (\S+)L/.exec(one.attrs.fill === "none" ? one.attrs.d : ""))
      .filter((found) => found && Number(found[1]) >= box.x && Number(found[2]) >= box.y)
      .map((found) => (box.y + box.h - Number(found[2])) / box.h);
    return tops.map((share) => Math.round(share * 100) / 100);
  };
  // The axis ends a tenth above the largest number: 0.4 / 0.44 and 0.2 / 0.44.
  assert.deepEqual(heights([natural(made(2, 1))]), [0.91, 0.45]);
  // 0.2 / 0.22 of both.
  assert.deepEqual(heights([natural(made(2, 1)), natural(made(2, 1, "b"))]), [0.91, 0.91]);
});

for (const [what, runs] of [
  ["no step", [emptyRun()]],
  ["one step", [made(1, 1)]],
  ["sixteen rewards", [made(30, 16)]],
  ["four runs", [made(20, 3, "a"), made(10, 3, "b"), made(5, 2, "c"), made(1, 1, "d")]],
  ["2000 steps", [made(2000, 3)]],
  ["natural steps", [natural(made(20, 3)), natural(made(5, 3, "b"), null)]],
  ["steps that change nothing", [natural(made(3, 2), 0)]],
  [
    "nulls and rubbish",
    [
      {
        ...made(3, 2),
        records: [{ step: 1, rewards: { a: null, b: { mean: "x" } }, cosines: [[1]] }],
      },
    ],
  ],
])
  test(`${what}: no coordinate is other than a finite number`, () => {
    for (const one of all(drawn(runs).shape))
      for (const [name, value] of Object.entries(one.attrs)) {
        assert.doesNotMatch(String(value), /NaN|Infinity|undefined/, `${one.tag} ${name}`);
        assert.notEqual(value, null);
      }
  });

test("the map has a cell for each pair and none for a reward with itself", () => {
  const { cells } = drawn([made(8, 3)]);
  assert.equal(cells.length, 6);
  assert.ok(cells.every((cell) => cell.row !== cell.column && cell.cosine === -0.5));
});

test("a pointer finds the nearest step, and nothing between the plots", () => {
  const run = made(20, 2);
  const { plots } = drawn([run]);
  const [plot] = plots;
  const x = plot.x + (plot.w * 7.2) / 20;
  assert.equal(recordAt(plots, run, x, plot.y + 5).step, 7);
  assert.equal(recordAt(plots, run, x, plot.y - 10), null);
  assert.equal(recordAt(plots, emptyRun(), x, plot.y + 5), null);
  assert.equal(crosshair(plots, 7).split("M").length - 1, plots.length);
});

test("every colour of a reward can be seen on light and on dark", () => {
  for (const colour of COLOURS) {
    assert.equal(shapes.visible(colour, WHITE), colour);
    assert.ok(shapes.contrast(shapes.visible(colour, DARK), DARK) >= 3, colour);
  }
});

test("contrast is that of WCAG: 21 for black on white, 1 for equals", () => {
  assert.ok(Math.abs(shapes.contrast("#000000", "#ffffff") - 21) < 1e-9);
  assert.equal(shapes.contrast("#336699", "#336699"), 1);
});

test("cosines have fixed colours: red against, blue together, outside is cut", () => {
  assert.deepEqual([-1, 0, 1].map(shapes.diverging), ["#67001f", "#f7f7f7", "#053061"]);
  assert.equal(shapes.diverging(-3), shapes.diverging(-1));
});

test("every marker is a closed path of its own", () => {
  const paths = [...MARKERS].map((kind) => shapes.marker(kind, 0, 0, 10));
  assert.equal(new Set(paths).size, MARKERS.length);
  for (const path of paths) assert.match(path, /^M[-\d. L]+Z$/);
});

test("lines break where a value is missing, and a lone point is seen", () => {
  assert.equal(shapes.line([0, 1, 2, 3, 4], [5, 6, null, 7, null]), "M0 5L1 6M3 7h2");
  assert.equal(shapes.line([], []), "");
});

test("ticks are round and inside", () => {
  assert.deepEqual(shapes.ticks(0, 1, 4), [0, 0.25, 0.5, 0.75, 1]);
  assert.deepEqual(shapes.ticks(0, 60, 5), [0, 20, 40, 60]);
  assert.deepEqual(shapes.ticks(3, 3, 5), [3]);
});

test("rewards within the unit range all get the same scale", () => {
  assert.deepEqual(shapes.extent([0.4, null, 0.6]), [0, 1]);
  assert.deepEqual(shapes.extent([]), [0, 1]);
  const [low, high] = shapes.extent([-3, 5]);
  assert.ok(low < -3 && high > 5);
});

test("long names are cut between characters, not within", () => {
  assert.equal(cut("abcdef", 4), "abc…");
  assert.equal(cut("😀😀😀", 2), "😀…");
  assert.equal(cut("abc", 3), "abc");
});

test("sockets: those in use and one more, at most all", () => {
  assert.deepEqual(
    [[], [1], [1, 3], [16]].map((linked) => socketsWanted(linked, 16)),
    [1, 2, 4, 16],
  );
});
