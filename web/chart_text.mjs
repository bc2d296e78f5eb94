// @ts-check
// What the live chart says in words and numbers.

import { series } from "./chart_data.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */
/** @typedef {import("./record.mjs").StepRecord} StepRecord */

/**
 * How long the rest takes, in seconds, if its steps take as long as the last ones; null if nobody knows.
 *
 * @param {Run} run
 * @returns {number | null}
 */
export function timeLeft(run) {
  const last = run.records.at(-1)?.step;
  const known = series(run.records.slice(-12), "seconds", "total").filter((one) => one !== null);
  if (run.ended || last === undefined || !known.length) return null;
  const typical = known.sort((a, b) => a - b)[known.length >> 1];
  return Math.max(0, run.steps - last) * typical;
}

/**
 * How a run stands, in a few words.
 *
 * @param {Run} run
 * @returns {string}
 */
export function standing(run) {
  const last = run.records.at(-1);
  const at = `step ${last?.step ?? 0} of ${run.steps}`;
  if (run.old) return `last run, ${at}`;
  if (!run.ended) return `${at} · ${run.phase}`;
  if (run.phase) return `${run.phase} at ${at}`;
  if (last && last.step >= run.steps)
    return `finished, ${run.steps} ${run.steps === 1 ? "step" : "steps"}`;
  return run.records.some((record) => record.converged === true) ? `converged at ${at}` : at;
}

/**
 * Speed and time left, in a few words; empty if nothing is known.
 *
 * @param {Run} run
 * @returns {string}
 */
export function pace(run) {
  const speeds = series(run.records.slice(-5), "tokens_per_second").filter((one) => one !== null);
  const parts = [];
  if (speeds.length) {
    const mean = speeds.reduce((sum, one) => sum + one, 0) / speeds.length;
    parts.push(`${formatNumber(mean)} tokens/s`);
  }
  const left = timeLeft(run);
  if (left !== null) parts.push(`about ${formatDuration(left)} left`);
  return parts.join(" · ");
}

/**
 * Titles of the columns that `rowsAt` gives for each reward, after its name.
 *
 * @param {StepRecord} record
 * @returns {string[]}
 */
export function columnsAt(record) {
  return ["training", "held-out", "weight", ...(record.signals ? ["signal"] : [])];
}

/**
 * What is known of a step, as rows of a table: for each reward what `columnsAt` says, then the rest.
 *
 * @param {StepRecord} record
 * @param {string[]} names of the rewards
 * @returns {{reward: number | null, cells: string[]}[]} `reward` is its place; null for other rows
 */
export function rowsAt(record, names) {
  const at = (/** @type {string[]} */ ...keys) => formatNumber(series([record], ...keys)[0]);
  const rewards = names.map((name, reward) => ({
    reward,
    cells: [
      name,
      at("rewards", name, "mean"),
      at("eval", "rewards", name, "mean"),
      at("weights", name),
      ...(record.signals ? [formatShare(series([record], "signals", name)[0])] : []),
    ],
  }));
  /** @type {[string, string][]} */
  const rest = [
    ["dispersion", at("dispersion")],
    ["length", at("length", "mean")],
    ["truncated", formatShare(series([record], "truncated")[0])],
    ["tokens/s", at("tokens_per_second")],
  ];
  if (record.step_kl !== undefined)
    rest.push(["step, predicted", at("step_kl")], ["step, measured", at("step_kl_measured")]);
  return [...rewards, ...rest.map((cells) => ({ reward: null, cells }))];
}

/** @param {number | null} value @returns {string} */
export function formatShare(value) {
  return value === null ? "–" : `${Math.round(100 * value)} %`;
}

/** @param {number} seconds @returns {string} */
export function formatDuration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/**
 * A number as short as it can be read: two digits after the point below ten, none above a hundred.
 *
 * @param {number | null} value
 * @returns {string}
 */
export function formatNumber(value) {
  if (value === null) return "–";
  const size = Math.abs(value);
  if (size >= 100_000) return value.toExponential(1).replace("e+", "e");
  if (size !== 0 && size < 0.005) return value.toExponential(0).replaceAll("-", "−");
  const text = value.toFixed(size < 10 ? 2 : size < 100 ? 1 : 0).replace("-", "−");
  return size >= 10_000 ? text.replace(/(\d)(?=(\d{3})+$)/g, "$1\u202f") : text;
}

/** @param {number | null} value @returns {string} */
export function formatCosine(value) {
  if (value === null) return "–";
  const text = Math.abs(value).toFixed(2);
  return text === "0.00" ? text : `${value > 0 ? "+" : "−"}${text}`;
}

/**
 * How the gradients of two rewards lie to each other: their cosine, and the area between unit gradients, the norm of
 * their outer product.
 *
 * @param {string} one
 * @param {string} other
 * @param {number} cosine
 * @returns {string}
 */
export function aboutPair(one, other, cosine) {
  const what =
    cosine < -0.1
      ? "work against each other"
      : cosine > 0.1
        ? "pull together"
        : "leave each other alone";
  const area = Math.sqrt(Math.max(0, 1 - cosine * cosine));
  return `${one} and ${other} ${what} (cosine ${formatCosine(cosine)}, area ${area.toFixed(2)})`;
}
