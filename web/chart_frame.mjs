// @ts-check
// What all panels of the live chart are made of. They are trees of SVG elements as plain objects, so that they
// can be tested without a page.

import { MARKERS } from "./chart_data.mjs";
import * as shapes from "./chart_shapes.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */
/** @typedef {import("./chart_shapes.mjs").Box} Box */
/** @typedef {{tag: string, attrs: Record<string, string | number>, children: (Shape | string)[]}} Shape */
/** @typedef {Box & {first: number, last: number}} Plot an area with steps along it */
/** @typedef {Box & {row: number, column: number, cosine: number}} Cell */
/** @typedef {{runs: Run[], names: string[], colours: string[], last: number}} Plan what is drawn */

export const INK = "var(--gdpo-ink)";
export const GREY = "var(--gdpo-grey)";
export const PALE = "var(--gdpo-pale)";
export const LEFT = 34; // pixels for the numbers beside a panel
export const TITLE = 20; // pixels above a panel
export const LETTER = 5.6; // mean width of a letter

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
export function panel(plan, box, look, inner) {
  const x = shapes.scale(0, plan.last, box.x, box.x + box.w);
  const y = shapes.scale(look.range[0], look.range[1], box.y + box.h, box.y);
  const format = look.format ?? ((value) => String(Number(value.toPrecision(6))));
  const marks = shapes.ticks(look.range[0], look.range[1], box.h < 80 ? 2 : 4);
  const grid = marks.flatMap((mark) => [
    shape("path", { d: `M${box.x} ${y(mark)}h${box.w}`, stroke: PALE }),
    words(format(mark).replace("-", "−"), box.x - 5, y(mark) + 3.5, {
      "text-anchor": "end",
      fill: GREY,
    }),
  ]);
  const below = look.steps
    ? shapes
        .ticks(0, plan.last, 5)
        .filter(Number.isInteger)
        .map((step) =>
          words(step === 0 ? "step 0" : String(step), x(step), box.y + box.h + 12, {
            "text-anchor": step === 0 ? "start" : x(step) > box.x + box.w - 12 ? "end" : "middle",
            fill: GREY,
          }),
        )
    : [];
  const head = [words(look.title, box.x - LEFT + 4, box.y - 9, { fill: INK, "font-weight": 600 })];
  const room = box.w + LEFT - 12 - LETTER * 1.15 * look.title.length;
  if (look.note && LETTER * look.note.length < room)
    head.push(words(look.note, box.x + box.w, box.y - 9, { fill: GREY, "text-anchor": "end" }));
  const frame = shape("path", {
    d: `M${box.x} ${box.y + box.h}h${box.w}`,
    stroke: GREY,
    "stroke-width": 0.6,
  });
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
export function words(content, x, y, attrs) {
  return shape("text", { x: round(x), y: round(y), ...attrs }, content);
}

/** @param {number} value */
export function round(value) {
  return Math.round(value * 10) / 10;
}

/**
 * @param {Run} run
 * @param {(number | null)[]} values
 * @param {(step: number) => number} x
 * @param {(value: number) => number} y
 * @param {Record<string, string | number>} look
 */
export function curve(run, values, x, y, look) {
  // An evaluation before the first step has no such number at all; that is no gap.
  const kept = run.records.flatMap((record, n) =>
    record.rewards ? [{ step: record.step, value: values[n] }] : [],
  );
  const d = shapes.line(
    kept.map((one) => x(one.step)),
    kept.map((one) => (one.value === null ? null : y(one.value))),
  );
  return shape("path", {
    d,
    fill: "none",
    "stroke-width": 1.7,
    "stroke-linejoin": "round",
    ...look,
  });
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
export function symbol(plan, reward, x, y, size, hollow) {
  const d = shapes.marker(MARKERS[reward % MARKERS.length], x, y, size);
  const colour = plan.colours[reward];
  const ground = "var(--gdpo-ground)";
  const look = {
    fill: hollow ? ground : colour,
    stroke: hollow ? colour : ground,
    "stroke-width": hollow ? 1.3 : 0.8,
  };
  return shape("path", { d, ...look });
}

/** @param {string} text @param {number} letters @returns {string} */
export function cut(text, letters) {
  const all = [...text];
  return all.length <= letters
    ? text
    : `${all.slice(0, Math.max(1, Math.floor(letters) - 1)).join("")}…`;
}
