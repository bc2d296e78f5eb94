// @ts-check
// What the live chart shows, computed from a run's records: no page and no drawing here.
// Not a .js file, because the page imports all of those as extensions.

import { MAX_RECORDS, finite, withRecord } from "./record.mjs";

/** @typedef {import("./record.mjs").StepRecord} StepRecord */
/** @typedef {import("./record.mjs").CompletionRecord} CompletionRecord */
/**
 * @typedef {object} Run one run as the chart knows it
 * @property {string} name
 * @property {number} steps asked for
 * @property {StepRecord[]} records in order of their steps
 * @property {string[]} findings what looks wrong, in words
 * @property {CompletionRecord | null} sample
 * @property {string} phase what is being done; empty once nothing is
 * @property {boolean} ended whether it has ended, in whatever way
 * @property {boolean} old whether it ended before the page was opened
 */

/** The figure's colours and markers, see `gdpo/plotting/data.py`. */
export const COLOURS = [
  ..."#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #000000 #332288".split(" "),
  ..."#882255 #44AA99 #999933 #CC6677 #117733 #88CCEE #AA4499 #DDCC77".split(" "),
];
export const MARKERS = "osD^vP*Xp<>hd8H.";
/** Dashes of the first, second, third and fourth run. */
export const DASHES = ["", "6 3", "1.5 2.5", "7 2.5 1.5 2.5"];

/** @returns {Run} */
export function emptyRun() {
  const none = { name: "", steps: 0, records: [], findings: [], sample: null };
  return { ...none, phase: "", ended: false, old: false };
}

/**
 * A run after a message about it, see `LiveRun` in `nodes/comfy/live.py`.
 *
 * @param {Run} run
 * @param {any} message
 * @returns {Run}
 */
export function told(run, message) {
  const fresh = Array.isArray(message.past) || message.run !== run.name;
  let records = fresh ? asRecords(message.past) : run.records;
  if (message.record) records = withRecord(records, message.record);
  const done = finite(message.done) ?? 0;
  const total = finite(message.total) ?? 0;
  const counted = message.phase === "evaluating" || message.phase === "checking";
  const part = counted && total ? ` ${done} of ${total}` : "";
  const phase = message.phase ? `${message.phase}${part}` : "";
  return {
    name: String(message.run ?? ""),
    steps: finite(message.steps) ?? 0,
    records,
    findings: Array.isArray(message.findings)
      ? message.findings.map(String)
      : fresh
        ? []
        : run.findings,
    sample: message.sample ?? (fresh ? null : run.sample),
    phase: message.ended ? phase : phase || (fresh ? "working" : run.phase),
    ended: message.ended === true,
    old: false,
  };
}

/**
 * A finished run, as a node's `ui` holds it.
 *
 * @param {any} shown
 * @param {boolean} [old] whether it was made before the page was opened
 * @returns {Run}
 */
export function finished(shown, old = false) {
  return { ...told(emptyRun(), { ...shown, past: shown?.records, ended: true }), phase: "", old };
}

/** @param {unknown} list @returns {StepRecord[]} */
function asRecords(list) {
  const records = Array.isArray(list) ? list.filter((one) => finite(one?.step) !== null) : [];
  return records.slice(-MAX_RECORDS);
}

/**
 * The rewards' names in the order in which they first occur.
 *
 * @param {Run[]} runs
 * @returns {string[]}
 */
export function rewardNames(runs) {
  const names = new Set();
  for (const run of runs)
    for (const record of run.records)
      for (const source of [record.rewards, record.eval?.rewards])
        for (const name of Object.keys(source ?? {})) names.add(name);
  return [...names];
}

/**
 * The number at `keys` of each record; null where a record has none.
 *
 * @param {StepRecord[]} records
 * @param {...string} keys
 * @returns {(number | null)[]}
 */
export function series(records, ...keys) {
  return records.map((record) =>
    finite(keys.reduce((/** @type {any} */ at, key) => at?.[key], record)),
  );
}

/**
 * Centred moving mean, as wide as the figure's. Gaps stay gaps.
 *
 * @param {(number | null)[]} values
 * @returns {(number | null)[]}
 */
export function smooth(values) {
  const reach = Math.max(1, Math.floor(values.length / 30));
  return values.map((value, at) => {
    if (value === null) return null;
    const near = values
      .slice(Math.max(0, at - reach), at + reach + 1)
      .filter((one) => one !== null);
    return near.reduce((sum, one) => sum + one, 0) / near.length;
  });
}

/**
 * Mean cosine matrix (K, K) over the last quarter of the records that have one; null if none has.
 *
 * @param {StepRecord[]} records
 * @param {number} count K
 * @returns {(number | null)[][] | null}
 */
export function meanCosines(records, count) {
  const found = records.flatMap(({ cosines }) => (isMatrix(cosines, count) ? [cosines] : []));
  if (!found.length) return null;
  const last = found.slice(-Math.max(1, Math.floor(found.length / 4)));
  return Array.from({ length: count }, (_, i) =>
    Array.from({ length: count }, (_, j) => {
      const cells = last.map((rows) => finite(rows[i][j])).filter((cell) => cell !== null);
      return cells.length ? cells.reduce((sum, cell) => sum + cell, 0) / cells.length : null;
    }),
  );
}

/** @param {any} rows @param {number} count @returns {rows is (number | null)[][]} */
function isMatrix(rows, count) {
  return Array.isArray(rows) && rows.length === count && rows.every((row) => row?.length === count);
}
