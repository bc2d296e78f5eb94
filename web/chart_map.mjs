// @ts-check
// The parts of the live chart without steps: the conflict map, and the key to colours and markers.

import { DASHES, meanCosines, series, smooth } from "./chart_data.mjs";
import { GREY, INK, LETTER, PALE, cut, round, shape, symbol, words } from "./chart_frame.mjs";
import { diverging } from "./chart_shapes.mjs";
import { formatCosine, formatNumber } from "./chart_text.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */
/** @typedef {import("./chart_shapes.mjs").Box} Box */
/** @typedef {import("./chart_frame.mjs").Shape} Shape */
/** @typedef {import("./chart_frame.mjs").Plan} Plan */
/** @typedef {import("./chart_frame.mjs").Cell} Cell */

export const ROW = 15; // pixels of one row of the key

/**
 * Which rewards pull the policy apart (red) or together (blue), in the first run.
 *
 * @param {Plan} plan
 * @param {Box} box
 * @returns {{shape: Shape, cells: Cell[]}}
 */
export function drawMap(plan, box) {
  const count = plan.names.length;
  const head = 14; // for the symbols on the left and below
  const title = words("Conflicts", box.x - 24, box.y - 9, { fill: INK, "font-weight": 600 });
  const note = words("red: against", box.x + box.w, box.y - 9, {
    fill: GREY,
    "text-anchor": "end",
  });
  const matrix = count > 1 ? meanCosines(plan.runs[0]?.records ?? [], count) : null;
  if (!matrix) {
    const text = count === 1 ? "a single reward" : "nothing yet";
    const middle = { x: box.x + box.w / 2, y: box.y + box.h / 2 };
    return {
      shape: shape(
        "g",
        {},
        title,
        words(text, middle.x, middle.y, { fill: GREY, "text-anchor": "middle" }),
      ),
      cells: [],
    };
  }
  const size = Math.min(box.w, box.h) - head;
  const [left, cell] = [box.x + box.w - size, size / count];
  const parts = [title, ...(box.w > 100 ? [note] : [])];
  /** @type {Cell[]} */
  const cells = [];
  matrix.forEach((line, row) => {
    const y = box.y + row * cell;
    parts.push(symbol(plan, row, left - 8, y + cell / 2, Math.min(4.6, cell / 2)));
    parts.push(
      symbol(plan, row, left + (row + 0.5) * cell, box.y + size + 8, Math.min(4.6, cell / 2)),
    );
    line.forEach((cosine, column) => {
      const x = left + column * cell;
      const place = { x: round(x), y: round(y), width: round(cell - 1), height: round(cell - 1) };
      // A reward agrees with itself; that is no news.
      const empty = cosine === null || row === column;
      parts.push(shape("rect", { ...place, fill: empty ? PALE : diverging(cosine) }));
      if (empty) return;
      cells.push({ x, y, w: cell, h: cell, row, column, cosine });
      if (cell < 28) return;
      const fill = Math.abs(cosine) > 0.6 ? "#ffffff" : "#222222";
      const look = { fill, "text-anchor": "middle", "font-size": cell < 34 ? 9 : 11 };
      parts.push(words(formatCosine(cosine), x + cell / 2, y + cell / 2 + 3.5, look));
    });
  });
  return { shape: shape("g", {}, ...parts), cells };
}

/** @param {Plan} plan @param {Box} box @param {number} columns */
export function drawKey(plan, box, columns) {
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
  const runs =
    plan.runs.length < 2
      ? []
      : plan.runs.flatMap((run, r) => {
          const y = top + r * ROW + 11;
          const stroke = { stroke: INK, "stroke-width": 1.7, "stroke-dasharray": DASHES[r] };
          return [
            shape("path", { d: `M${box.x} ${y - 3.5}h20`, ...stroke }),
            words(cut(run.name, box.w / LETTER - 6), box.x + 26, y, { fill: INK }),
          ];
        });
  return shape("g", {}, ...items, ...runs);
}

/** First and last value of a reward, held-out if there is any. @param {Run} run @param {string} name */
function changeOf(run, name) {
  let known = series(run.records, "eval", "rewards", name, "mean").filter((one) => one !== null);
  if (!known.length)
    known = smooth(series(run.records, "rewards", name, "mean")).filter((one) => one !== null);
  const ends = known.length > 1 ? [known[0], known[known.length - 1]] : known;
  return ends.map(formatNumber).join(" → ");
}
