// @ts-check
// The live chart's panels as trees of SVG elements: plain objects, so that they can be tested without a page.

import * as data from "./chart_data.mjs";
import * as shapes from "./chart_shapes.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */
/** @typedef {import("./chart_shapes.mjs").Box} Box */
/** @typedef {{tag: string, attrs: Record<string, string | number>, children: (Shape | string)[]}} Shape */
/** @typedef {Box & {first: number, last: number}} Plot an area with steps along it */
/** @typedef {Box & {row: number, column: number, cosine: number}} Cell */
/** @typedef {{shape: Shape, plots: Plot[], cells: Cell[], height: number}} Drawing */
/** @typedef {{runs: Run[], names: string[], colours: string[], last: number}} Plan */

export const INK = "var(--gdpo-ink)";
export const GREY = "var(--gdpo-grey)";
const PALE = "var(--gdpo-pale)";
const ALARM = data.COLOURS[1];
const TITLE = 20; // pixels above a panel
const LEFT = 34; // for the numbers beside a panel
const ROW = 15; // one row of the key
const GAP = 9;
const LETTER = 5.6; // mean width of a letter
const LEAST = { rewards: 110, middle: 96, small: 46 };

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attrs
 * @param {...(Shape | string)} children
 * @returns {Shape}
 */
export function shape(tag, attrs, ...children) {
  return { tag, attrs, children };
}

/**
 * The whole chart.
 *
 * @param {Run[]} runs the first one in detail, at most three more laid over it
 * @param {number} width
 * @param {number} height it may grow above
 * @param {string} ground colour behind it
 * @returns {Drawing}
 */
export function drawChart(runs, width, height, ground) {
  const names = data.rewardNames(runs);
  const last = Math.max(1, ...runs.map((run) => Math.max(run.steps, run.records.at(-1)?.step ?? 0)));
  const colours = names.map((_, n) => shapes.visible(data.COLOURS[n % data.COLOURS.length], ground));
  const plan = { runs: runs.slice(0, data.DASHES.length), names, colours, last };
  const columns = width >= 360 && names.length > 3 ? 2 : 1;
  const keyRows = Math.ceil(names.length / columns) + (runs.length > 1 ? plan.runs.length : 0);
  const fixed = 3 * TITLE + keyRows * ROW + 3 * GAP + 14;
  const free = Math.max(0, height - fixed - LEAST.rewards - LEAST.middle - LEAST.small);
  const size = {
    rewards: LEAST.rewards + free * 0.42,
    middle: LEAST.middle + free * 0.38,
    small: LEAST.small + free * 0.2,
  };

  let y = TITLE;
  const rewards = drawRewards(plan, { x: LEFT, y, w: width - LEFT - 4, h: size.rewards });
  y += size.rewards + 14;
  const key = drawKey(plan, { x: 4, y, w: width - 8, h: keyRows * ROW }, columns);
  y += keyRows * ROW + GAP + TITLE;
  const side = Math.min(size.middle + 14, width * 0.45);
  const mapLeft = width - side - 4;
  const weights = drawWeights(plan, { x: LEFT, y, w: mapLeft - LEFT - 34, h: size.middle });
  const map = drawMap(plan, { x: mapLeft, y, w: side, h: size.middle + 6 }, ground);
  y += size.middle + GAP + TITLE;
  const third = (width - 4) / 3;
  const small = [drawDispersion, drawLength, drawTruncated].map((draw, n) =>
    draw(plan, { x: n * third + LEFT, y, w: third - LEFT - 4, h: size.small }),
  );
  y += size.small + 4;
  const parts = [rewards, weights, ...small];
  return {
    shape: shape("g", {}, ...parts.map((part) => part.shape), key, map.shape),
    plots: parts.map((part) => part.plot),
    cells: map.cells,
    height: Math.ceil(y),
  };
}

/**
 * @typedef {object} Look how a panel's frame looks
 * @property {string} title
 * @property {string} [note]
 * @property {[number, number]} range
 * @property {(value: number) => string} [format]
 * @property {boolean} [steps] whether steps are written below
 */

/**
 * Title, grid and numbers of a panel, with `inner` above the grid.
 *
 * @param {Plan} plan
 * @param {Box} box
 * @param {Look} look
 * @param {(x: (step: number) => number, y: (value: number) => number) => Shape[]} inner
 * @returns {{shape: Shape, plot: Plot}}
 */
function panel(plan, box, look, inner) {
  const x = shapes.scale(0, plan.last, box.x, box.x + box.w);
  const y = shapes.scale(look.range[0], look.range[1], box.y + box.h, box.y);
  const format = look.format ?? ((value) => String(Number(value.toPrecision(6))));
  const marks = shapes.ticks(look.range[0], look.range[1], box.h < 80 ? 2 : 4);
  const grid = marks.flatMap((mark) => [
    shape("path", { d: `M${box.x} ${y(mark)}h${box.w}`, stroke: PALE }),
    words(format(mark).replace("-", "−"), box.x - 5, y(mark) + 3.5, { "text-anchor": "end", fill: GREY }),
  ]);
  const below = look.steps
    ? shapes.ticks(0, plan.last, 5).filter(Number.isInteger).map((step) =>
        words(step === 0 ? "step 0" : String(step), x(step), box.y + box.h + 12, {
          "text-anchor": step === 0 ? "start" : x(step) > box.x + box.w - 12 ? "end" : "middle",
          fill: GREY,
        }),
      )
    : [];
  const head = [words(look.title, box.x - LEFT + 4, box.y - 9, { fill: INK, "font-weight": 600 })];
  if (look.note)
    head.push(words(look.note, box.x + box.w, box.y - 9, { fill: GREY, "text-anchor": "end" }));
  const frame = shape("path", { d: `M${box.x} ${box.y + box.h}h${box.w}`, stroke: GREY, "stroke-width": 0.6 });
  return {
    shape: shape("g", {}, ...head, ...grid, frame, ...inner(x, y), ...below),
    plot: { ...box, first: 0, last: plan.last },
  };
}

/**
 * @param {string} content
 * @param {number} x
 * @param {number} y
 * @param {Record<string, string | number>} attrs
 */
function words(content, x, y, attrs) {
  return shape("text", { x: round(x), y: round(y), ...attrs }, content);
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}

/**
 * @param {Run} run
 * @param {(number | null)[]} values
 * @param {(step: number) => number} x
 * @param {(value: number) => number} y
 * @param {Record<string, string | number>} look
 */
function curve(run, values, x, y, look) {
  // A record that has no such number at all (an evaluation before the first step) is no gap.
  const kept = run.records.map((record, n) => [record, values[n]]).filter(([record]) => record.rewards);
  const d = shapes.line(
    kept.map(([record]) => x(record.step)),
    kept.map(([, value]) => (value === null ? null : y(value))),
  );
  return shape("path", { d, fill: "none", "stroke-width": 1.7, "stroke-linejoin": "round", ...look });
}

/** @param {Plan} plan @param {Box} box */
function drawRewards(plan, box) {
  const { runs, names, colours } = plan;
  const training = runs.map((run) => names.map((name) => data.series(run.records, "rewards", name, "mean")));
  const heldOut = runs.map((run) => names.map((name) => data.series(run.records, "eval", "rewards", name, "mean")));
  const evaluated = heldOut.flat(2).some((value) => value !== null);
  const range = shapes.extent([...training.flat(2), ...heldOut.flat(2)]);
  const note = `line: training, smoothed${evaluated ? " · marker: held-out prompts" : ""}`;
  return panel(plan, box, { title: "Rewards", note, range, steps: true }, (x, y) =>
    runs.flatMap((run, r) =>
      names.flatMap((name, n) => {
        const parts = [];
        if (runs.length * names.length <= 6 && runs.length === 1)
          parts.push(curve(run, training[r][n], x, y, { stroke: colours[n], "stroke-width": 0.7, opacity: 0.45 }));
        const dash = data.DASHES[r];
        parts.push(curve(run, data.smooth(training[r][n]), x, y, { stroke: colours[n], "stroke-dasharray": dash }));
        const errors = data.series(run.records, "eval", "rewards", name, "standard_error");
        run.records.forEach((record, i) => {
          const value = heldOut[r][n][i];
          if (value === null) return;
          const [cx, cy] = [x(record.step), y(value)];
          const reach = Math.abs(y(value + (errors[i] ?? 0)) - cy);
          parts.push(
            shape("path", { d: `M${round(cx)} ${round(cy - reach)}v${round(2 * reach)}`, stroke: colours[n] }),
            symbol(plan, n, cx, cy, 4.6, r > 0),
          );
        });
        return parts;
      }),
    ),
  );
}

/**
 * The colour and marker by which a reward is known in the whole chart.
 *
 * @param {Plan} plan
 * @param {number} reward
 * @param {number} x
 * @param {number} y
 * @param {number} size
 * @param {boolean} [hollow]
 */
function symbol(plan, reward, x, y, size, hollow) {
  const d = shapes.marker(data.MARKERS[reward % data.MARKERS.length], x, y, size);
  const colour = plan.colours[reward];
  const ground = "var(--gdpo-ground)";
  const look = { fill: hollow ? ground : colour, stroke: hollow ? colour : ground, "stroke-width": hollow ? 1.3 : 0.8 };
  return shape("path", { d, ...look });
}

/** @param {Plan} plan @param {Box} box @param {number} columns */
function drawKey(plan, box, columns) {
  const width = box.w / columns;
  const items = plan.names.flatMap((name, n) => {
    const x = box.x + (n % columns) * width;
    const y = box.y + Math.floor(n / columns) * ROW + 11;
    const change = plan.runs.map((run) => changeOf(run, name)).join("  |  ");
    const fitting = Math.max(4, Math.floor((width - 36) / LETTER) - change.length);
    return [
      shape("path", { d: `M${x} ${y - 3.5}h20`, stroke: plan.colours[n], "stroke-width": 1.7 }),
      symbol(plan, n, x + 10, y - 3.5, 4.6),
      words(cut(name, fitting), x + 26, y, { fill: INK }),
      words(change, x + width - 8, y, { fill: INK, "text-anchor": "end" }),
    ];
  });
  const top = box.y + Math.ceil(plan.names.length / columns) * ROW;
  const runs = plan.runs.length < 2 ? [] : plan.runs.flatMap((run, r) => {
    const y = top + r * ROW + 11;
    const stroke = { stroke: INK, "stroke-width": 1.7, "stroke-dasharray": data.DASHES[r] };
    return [
      shape("path", { d: `M${box.x} ${y - 3.5}h20`, ...stroke }),
      words(cut(run.name, box.w / LETTER - 6), box.x + 26, y, { fill: INK }),
    ];
  });
  return shape("g", {}, ...items, ...runs);
}

/** First and last value of a reward, held-out if there is any. @param {Run} run @param {string} name */
function changeOf(run, name) {
  let known = data.series(run.records, "eval", "rewards", name, "mean").filter((one) => one !== null);
  if (!known.length)
    known = data.smooth(data.series(run.records, "rewards", name, "mean")).filter((one) => one !== null);
  const ends = known.length > 1 ? [known[0], known[known.length - 1]] : known;
  return ends.map(data.formatNumber).join(" → ");
}

/** @param {string} text @param {number} letters @returns {string} */
export function cut(text, letters) {
  const all = [...text];
  return all.length <= letters ? text : `${all.slice(0, Math.max(1, Math.floor(letters) - 1)).join("")}…`;
}

/** @param {Plan} plan @param {Box} box */
function drawWeights(plan, box) {
  const single = plan.runs.length === 1;
  const of = (/** @type {Run} */ run, /** @type {string} */ key) =>
    plan.names.map((name) => data.series(run.records, key, name));
  const all = plan.runs.flatMap((run) => [...of(run, "weights"), ...(single ? of(run, "preferences") : [])]);
  const top = Math.max(0.5, ...all.flat().map((value) => value ?? 0)) * 1.06;
  const note = single ? "dashed: wished" : "";
  return panel(plan, box, { title: "Weights", note, range: [0, top] }, (x, y) =>
    plan.runs.flatMap((run, r) => [
      ...(single ? of(run, "preferences") : []).map((values, n) =>
        curve(run, values, x, y, { stroke: plan.colours[n], "stroke-width": 1, "stroke-dasharray": "3 3" }),
      ),
      ...of(run, "weights").map((values, n) =>
        curve(run, values, x, y, { stroke: plan.colours[n], "stroke-dasharray": data.DASHES[r] }),
      ),
    ]),
  );
}

/**
 * Which rewards pull the policy apart (red) or together (blue), in the first run.
 *
 * @param {Plan} plan
 * @param {Box} box
 * @param {string} ground
 * @returns {{shape: Shape, cells: Cell[]}}
 */
function drawMap(plan, box, ground) {
  const count = plan.names.length;
  const head = 14; // for the symbols on the left and below
  const title = words("Conflicts", box.x - 4, box.y - 9, { fill: INK, "font-weight": 600 });
  const note = words("− against, + together", box.x + box.w, box.y - 9, { fill: GREY, "text-anchor": "end" });
  const matrix = count > 1 ? data.meanCosines(plan.runs[0]?.records ?? [], count) : null;
  if (!matrix) {
    const text = count === 1 ? "a single reward" : "nothing yet";
    const middle = { x: box.x + box.w / 2, y: box.y + box.h / 2 };
    return {
      shape: shape("g", {}, title, words(text, middle.x, middle.y, { fill: GREY, "text-anchor": "middle" })),
      cells: [],
    };
  }
  const size = Math.min(box.w, box.h) - head;
  const [left, cell] = [box.x + box.w - size, size / count];
  const parts = [title, ...(box.w > 150 ? [note] : [])];
  /** @type {Cell[]} */
  const cells = [];
  matrix.forEach((line, row) => {
    const y = box.y + row * cell;
    parts.push(symbol(plan, row, left - 8, y + cell / 2, Math.min(4.6, cell / 2)));
    parts.push(symbol(plan, row, left + (row + 0.5) * cell, box.y + size + 8, Math.min(4.6, cell / 2)));
    line.forEach((cosine, column) => {
      const x = left + column * cell;
      const place = { x: round(x), y: round(y), width: round(cell - 1), height: round(cell - 1) };
      // A reward agrees with itself; that is no news.
      const empty = cosine === null || row === column;
      parts.push(shape("rect", { ...place, fill: empty ? PALE : shapes.diverging(cosine) }));
      if (empty) return;
      cells.push({ x, y, w: cell, h: cell, row, column, cosine });
      if (cell < 28) return;
      const fill = Math.abs(cosine) > 0.6 ? "#ffffff" : "#222222";
      const look = { fill, "text-anchor": "middle", "font-size": cell < 34 ? 9 : 11 };
      parts.push(words(data.formatCosine(cosine), x + cell / 2, y + cell / 2 + 3.5, look));
    });
  });
  return { shape: shape("g", {}, ...parts), cells };
}

/** @param {Plan} plan @param {Box} box */
function drawDispersion(plan, box) {
  const [run] = plan.runs;
  const floor = data.series(run?.records ?? [], "dispersion_floor").filter((one) => one).at(-1) ?? null;
  const note = floor === null ? "" : "dashed: floor";
  return panel(plan, box, { title: "Dispersion", note: box.w > 120 ? note : "", range: [0, 1] }, (x, y) => [
    ...(floor === null
      ? []
      : [shape("path", { d: `M${box.x} ${round(y(floor))}h${box.w}`, stroke: ALARM, "stroke-dasharray": "4 3" })]),
    ...plain(plan, x, y, "dispersion"),
  ]);
}

/** @param {Plan} plan @param {Box} box */
function drawLength(plan, box) {
  const all = plan.runs.flatMap((run) => data.series(run.records, "length", "mean"));
  const top = Math.max(1, ...all.map((value) => value ?? 0)) * 1.1;
  return panel(plan, box, { title: "Length (tokens)", range: [0, top] }, (x, y) => plain(plan, x, y, "length", "mean"));
}

/** @param {Plan} plan @param {Box} box */
function drawTruncated(plan, box) {
  const look = { title: "Truncated", range: /** @type {[number, number]} */ ([0, 1]), format: data.formatShare };
  return panel(plan, box, look, (x, y) => plain(plan, x, y, "truncated"));
}

/**
 * @param {Plan} plan
 * @param {(step: number) => number} x
 * @param {(value: number) => number} y
 * @param {...string} keys
 */
function plain(plan, x, y, ...keys) {
  return plan.runs.map((run, r) =>
    curve(run, data.series(run.records, ...keys), x, y, { stroke: INK, "stroke-dasharray": data.DASHES[r] }),
  );
}

/**
 * The record nearest to a pointer on one of the plots; null elsewhere.
 *
 * @param {Plot[]} plots
 * @param {Run} run
 * @param {number} x
 * @param {number} y
 * @returns {data.StepRecord | null}
 */
export function recordAt(plots, run, x, y) {
  const plot = plots.find((one) => x >= one.x - 6 && x <= one.x + one.w + 6 && y >= one.y && y <= one.y + one.h);
  if (!plot || !run.records.length) return null;
  const step = shapes.scale(plot.x, plot.x + plot.w, plot.first, plot.last)(x);
  return run.records.reduce((best, one) =>
    Math.abs(one.step - step) < Math.abs(best.step - step) ? one : best,
  );
}

/**
 * A thin line at a step on every plot.
 *
 * @param {Plot[]} plots
 * @param {number} step
 * @returns {string} for `d` of a path
 */
export function crosshair(plots, step) {
  return plots
    .map((one) => `M${round(shapes.scale(one.first, one.last, one.x, one.x + one.w)(step))} ${one.y}v${one.h}`)
    .join("");
}
