// @ts-check
// The live chart: where its panels are, and what is below a pointer.

import { COLOURS, DASHES, rewardNames, series } from "./chart_data.mjs";
import { LEFT, TITLE, round, shape } from "./chart_frame.mjs";
import { ROW, drawKey, drawMap } from "./chart_map.mjs";
import * as panels from "./chart_panels.mjs";
import { scale, visible } from "./chart_shapes.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */
/** @typedef {import("./record.mjs").StepRecord} StepRecord */
/** @typedef {import("./chart_frame.mjs").Shape} Shape */
/** @typedef {import("./chart_frame.mjs").Plot} Plot */
/** @typedef {import("./chart_frame.mjs").Cell} Cell */
/** @typedef {{shape: Shape, plots: Plot[], cells: Cell[], height: number}} Drawing */

const GAP = 9;
const LEAST = { rewards: 110, middle: 96, small: 46 };
const FOUR_ABREAST = 360; // pixels of width from which four small panels stand side by side

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
  const names = rewardNames(runs);
  const last = Math.max(
    1,
    ...runs.map((run) => Math.max(run.steps, run.records.at(-1)?.step ?? 0)),
  );
  const colours = names.map((_, n) => visible(COLOURS[n % COLOURS.length], ground));
  const plan = { runs: runs.slice(0, DASHES.length), names, colours, last };
  const columns = width >= 360 && names.length > 3 ? 2 : 1;
  const keyRows = Math.ceil(names.length / columns) + (runs.length > 1 ? plan.runs.length : 0);
  const drawSmall = smallPanels(plan.runs);
  const abreast = drawSmall.length > 3 && width < FOUR_ABREAST ? 2 : drawSmall.length;
  const smallRows = Math.ceil(drawSmall.length / abreast);
  const between = (smallRows - 1) * (LEAST.small + TITLE + GAP);
  const fixed = 3 * TITLE + keyRows * ROW + 3 * GAP + 14 + between;
  const free = Math.max(0, height - fixed - LEAST.rewards - LEAST.middle - LEAST.small);
  const size = {
    rewards: LEAST.rewards + free * 0.42,
    middle: LEAST.middle + free * 0.38,
    small: LEAST.small + (free * 0.2) / smallRows,
  };

  let y = TITLE;
  const rewards = panels.drawRewards(plan, { x: LEFT, y, w: width - LEFT - 4, h: size.rewards });
  y += size.rewards + 14;
  const key = drawKey(plan, { x: 4, y, w: width - 8, h: keyRows * ROW }, columns);
  y += keyRows * ROW + GAP + TITLE;
  const side = Math.min(size.middle + 14, width * 0.45);
  const mapLeft = width - side - 4;
  const weights = panels.drawWeights(plan, { x: LEFT, y, w: mapLeft - LEFT - 34, h: size.middle });
  const map = drawMap(plan, { x: mapLeft, y, w: side, h: size.middle + 6 });
  y += size.middle + GAP + TITLE;
  const part = (width - 4) / abreast;
  const pitch = size.small + GAP + TITLE;
  const small = drawSmall.map((draw, n) => {
    const top = y + Math.floor(n / abreast) * pitch;
    const left = (n % abreast) * part + LEFT;
    return draw(plan, { x: left, y: top, w: part - LEFT - 8, h: size.small });
  });
  y += (smallRows - 1) * pitch + size.small + 4;
  const parts = [rewards, weights, ...small];
  return {
    shape: shape("g", {}, ...parts.map((part) => part.shape), key, map.shape),
    plots: parts.map((part) => part.plot),
    cells: map.cells,
    height: Math.ceil(y),
  };
}

/** What is drawn small below the others; the step where a record has one. @param {Run[]} runs */
function smallPanels(runs) {
  const stepped = runs.some((run) => series(run.records, "step_kl").some((one) => one !== null));
  const all = [panels.drawDispersion, panels.drawLength, panels.drawTruncated];
  return stepped ? [...all, panels.drawStep] : all;
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
 * The record nearest to a pointer on one of the plots; null elsewhere.
 *
 * @param {Plot[]} plots
 * @param {Run} run
 * @param {number} x
 * @param {number} y
 * @returns {StepRecord | null}
 */
export function recordAt(plots, run, x, y) {
  const plot = plots.find(
    (one) => x >= one.x - 6 && x <= one.x + one.w + 6 && y >= one.y && y <= one.y + one.h,
  );
  if (!plot || !run.records.length) return null;
  const step = scale(plot.x, plot.x + plot.w, plot.first, plot.last)(x);
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
    .map(
      (one) =>
        `M${round(scale(one.first, one.last, one.x, one.x + one.w)(step))} ${one.y}v${one.h}`,
    )
    .join("");
}
