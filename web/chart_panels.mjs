// @ts-check
// The panels of the live chart that have steps along them.

import * as data from "./chart_data.mjs";
import { INK, curve, panel, round, shape, symbol } from "./chart_frame.mjs";
import { extent } from "./chart_shapes.mjs";
import { formatShare } from "./chart_text.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */
/** @typedef {import("./chart_shapes.mjs").Box} Box */
/** @typedef {import("./chart_frame.mjs").Shape} Shape */
/** @typedef {import("./chart_frame.mjs").Plan} Plan */

const ALARM = data.COLOURS[1];

/** @param {Plan} plan @param {Box} box */
export function drawRewards(plan, box) {
  const { runs, names, colours } = plan;
  const training = runs.map((run) =>
    names.map((name) => data.series(run.records, "rewards", name, "mean")),
  );
  const heldOut = runs.map((run) =>
    names.map((name) => data.series(run.records, "eval", "rewards", name, "mean")),
  );
  const evaluated = heldOut.flat(2).some((value) => value !== null);
  const range = extent([...training.flat(2), ...heldOut.flat(2)]);
  const held = evaluated ? " · marker: held-out prompts" : "";
  const note =
    box.w > 330 ? `line: training, smoothed${held}` : evaluated ? "marker: held-out" : "";
  return panel(plan, box, { title: "Rewards", note, range, steps: true }, (x, y) =>
    runs.flatMap((run, r) =>
      names.flatMap((name, n) => {
        const parts = [];
        if (runs.length * names.length <= 6 && runs.length === 1)
          parts.push(
            curve(run, training[r][n], x, y, {
              stroke: colours[n],
              "stroke-width": 0.7,
              opacity: 0.45,
            }),
          );
        const dash = data.DASHES[r];
        parts.push(
          curve(run, data.smooth(training[r][n]), x, y, {
            stroke: colours[n],
            "stroke-dasharray": dash,
          }),
        );
        const errors = data.series(run.records, "eval", "rewards", name, "standard_error");
        run.records.forEach((record, i) => {
          const value = heldOut[r][n][i];
          if (value === null) return;
          const [cx, cy] = [x(record.step), y(value)];
          const reach = Math.abs(y(value + (errors[i] ?? 0)) - cy);
          parts.push(
            shape("path", {
              d: `M${round(cx)} ${round(cy - reach)}v${round(2 * reach)}`,
              stroke: colours[n],
            }),
            symbol(plan, n, cx, cy, 4.6, r > 0),
          );
        });
        return parts;
      }),
    ),
  );
}

/** @param {Plan} plan @param {Box} box */
export function drawWeights(plan, box) {
  const single = plan.runs.length === 1;
  const of = (/** @type {Run} */ run, /** @type {string} */ key) =>
    plan.names.map((name) => data.series(run.records, key, name));
  const all = plan.runs.flatMap((run) => [
    ...of(run, "weights"),
    ...(single ? of(run, "preferences") : []),
  ]);
  const top = Math.max(0.5, ...all.flat().map((value) => value ?? 0)) * 1.06;
  const note = single ? "dashed: wished" : "";
  return panel(plan, box, { title: "Weights", note, range: [0, top] }, (x, y) =>
    plan.runs.flatMap((run, r) => [
      ...(single ? of(run, "preferences") : []).map((values, n) =>
        curve(run, values, x, y, {
          stroke: plan.colours[n],
          "stroke-width": 1,
          "stroke-dasharray": "3 3",
        }),
      ),
      ...of(run, "weights").map((values, n) =>
        curve(run, values, x, y, { stroke: plan.colours[n], "stroke-dasharray": data.DASHES[r] }),
      ),
    ]),
  );
}

/** @param {Plan} plan @param {Box} box */
export function drawDispersion(plan, box) {
  const [run] = plan.runs;
  const floor =
    data
      .series(run?.records ?? [], "dispersion_floor")
      .filter((one) => one)
      .at(-1) ?? null;
  const note = floor === null ? "" : "dashed: floor";
  return panel(plan, box, { title: "Dispersion", note, range: [0, 1] }, (x, y) => [
    ...(floor === null
      ? []
      : [
          shape("path", {
            d: `M${box.x} ${round(y(floor))}h${box.w}`,
            stroke: ALARM,
            "stroke-dasharray": "4 3",
          }),
        ]),
    ...plain(plan, x, y, "dispersion"),
  ]);
}

/** @param {Plan} plan @param {Box} box */
export function drawLength(plan, box) {
  const all = plan.runs.flatMap((run) => data.series(run.records, "length", "mean"));
  const top = Math.max(1, ...all.map((value) => value ?? 0)) * 1.1;
  return panel(plan, box, { title: "Length", note: "tokens", range: [0, top] }, (x, y) =>
    plain(plan, x, y, "length", "mean"),
  );
}

/** @param {Plan} plan @param {Box} box */
export function drawTruncated(plan, box) {
  const look = {
    title: "Truncated",
    range: /** @type {[number, number]} */ ([0, 1]),
    format: formatShare,
  };
  return panel(plan, box, look, (x, y) => plain(plan, x, y, "truncated"));
}

/**
 * How far each natural step changed the policy, and how far it was to; the latter of one run alone, or there would be
 * too many dashes.
 *
 * @param {Plan} plan
 * @param {Box} box
 */
export function drawStep(plan, box) {
  const single = plan.runs.length === 1;
  const predicted = single ? data.series(plan.runs[0].records, "step_kl") : [];
  const measured = plan.runs.flatMap((run) => data.series(run.records, "step_kl_measured"));
  const top = Math.max(0, ...[...predicted, ...measured].map((value) => value ?? 0)) || 1;
  const note = single && box.w > 170 ? "nats, dashed: predicted" : "nats";
  return panel(plan, box, { title: "Step", note, range: [0, top * 1.1] }, (x, y) => [
    ...(single
      ? [curve(plan.runs[0], predicted, x, y, { stroke: ALARM, "stroke-dasharray": "4 3" })]
      : []),
    ...plain(plan, x, y, "step_kl_measured"),
  ]);
}

/**
 * @param {Plan} plan
 * @param {(step: number) => number} x
 * @param {(value: number) => number} y
 * @param {...string} keys
 */
function plain(plan, x, y, ...keys) {
  return plan.runs.map((run, r) =>
    curve(run, data.series(run.records, ...keys), x, y, {
      stroke: INK,
      "stroke-dasharray": data.DASHES[r],
    }),
  );
}
