// @ts-check
// A chart for the eye alone: how the rewards rise, where the graph is shown so small that nothing can be read.

import { COLOURS, rewardNames, series, smooth } from "./chart_data.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */

const HEAD = 46; // pixels for one line of large letters
const LINE = 5;

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Run[]} runs
 * @param {{x: number, y: number, w: number, h: number}} box
 */
export function paintSmall(context, runs, box) {
  const last = Math.max(1, ...runs.map((run) => Math.max(run.steps, run.records.at(-1)?.step ?? 0)));
  const names = rewardNames(runs);
  context.save();
  context.beginPath();
  context.rect(box.x, box.y, box.w, box.h);
  context.clip();
  context.fillStyle = "#888";
  context.font = "600 34px sans-serif";
  context.textAlign = "left";
  context.fillText(title(runs, last), box.x + 6, box.y + 34);
  context.strokeStyle = "#888";
  context.lineWidth = 2;
  context.strokeRect(box.x, box.y + HEAD, box.w, Math.max(0, box.h - HEAD));
  for (const run of runs)
    names.forEach((name, reward) => curve(context, run, name, reward, { ...box, last }));
  context.restore();
}

/** @param {Run[]} runs @param {number} last @returns {string} */
function title(runs, last) {
  if (!runs.length) return "not run yet";
  if (runs.length > 1) return `${runs.length} runs`;
  const [run] = runs;
  const step = run.records.at(-1)?.step ?? 0;
  return run.ended ? `${run.name}: step ${step}` : `step ${step} of ${last}`;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Run} run
 * @param {string} name of a reward
 * @param {number} reward its number
 * @param {{x: number, y: number, w: number, h: number, last: number}} box
 */
function curve(context, run, name, reward, box) {
  const values = smooth(series(run.records, "rewards", name, "mean"));
  const [low, high] = rangeOf(values);
  context.strokeStyle = COLOURS[reward % COLOURS.length];
  context.lineWidth = LINE;
  context.beginPath();
  let isDown = false;
  values.forEach((value, n) => {
    if (value === null) return;
    const x = box.x + (run.records[n].step / box.last) * box.w;
    const y = box.y + box.h - LINE - ((value - low) / (high - low)) * (box.h - HEAD - 2 * LINE);
    if (isDown) context.lineTo(x, y);
    else context.moveTo(x, y);
    isDown = true;
  });
  context.stroke();
}

/** @param {(number | null)[]} values @returns {[number, number]} 0 to 1, and wider for what is outside */
function rangeOf(values) {
  const known = values.filter((one) => one !== null);
  return [Math.min(0, ...known), Math.max(1, ...known)];
}
