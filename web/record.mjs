// @ts-check
// A run's records as the page gets them, and how one more joins them.
// The types are those of `gdpo/runs/record.py`, of the keys that `nodes/comfy/live.py` sends; a test compares them.

/**
 * @typedef {object} RewardFigures one reward over the completions of a step, in its own unit
 * @property {number | null} mean
 * @property {number | null} std
 * @property {number | null} dead_groups share of the groups that teach nothing, 0 to 1
 */

/**
 * @typedef {object} HeldoutFigures one reward on held-out prompts, in its own unit
 * @property {number | null} mean
 * @property {number | null} standard_error
 */

/**
 * @typedef {object} LengthFigures lengths of completions, in tokens
 * @property {number} mean
 * @property {number} std
 */

/**
 * @typedef {object} Evaluation
 * @property {Record<string, HeldoutFigures>} rewards by name
 * @property {LengthFigures} length
 * @property {number | null} truncated share of the completions, 0 to 1
 */

/**
 * @typedef {object} Seconds how long a step took
 * @property {number | null} sample
 * @property {number | null} score
 * @property {number | null} update
 * @property {number | null} total
 */

/**
 * @typedef {object} StepRecord one step with the evaluation after it; old runs have fewer keys
 * @property {number} step number of finished steps
 * @property {Record<string, RewardFigures>} [rewards] by name; absent from an evaluation before the first step
 * @property {Evaluation} [eval]
 * @property {Record<string, number | null>} [weights] by the reward's name, to sum 1
 * @property {Record<string, number | null>} [preferences] what was wished for, by the reward's name
 * @property {(number | null)[][]} [cosines] between the gradients of two rewards, (K, K); null next to a reward at its
 *   target
 * @property {number | null} [dispersion] 1 / K to 1
 * @property {number | null} [dispersion_floor]
 * @property {LengthFigures} [length]
 * @property {number | null} [truncated] share of the completions, 0 to 1
 * @property {number | null} [tokens_per_second]
 * @property {Seconds} [seconds]
 * @property {boolean} [converged]
 * @property {number | null} [step_kl] divergence that a natural step was to bring, in nats per completion
 * @property {number | null} [step_kl_measured] the divergence that it brought
 * @property {Record<string, number | null>} [signals] share of each reward's direction that held for prompts that were
 *   left out, by the reward's name, 0 to 1
 */

/**
 * @typedef {object} CompletionRecord
 * @property {number} step
 * @property {string} prompt
 * @property {string} completion
 * @property {Record<string, number | null>} rewards scores by name
 */

/** More records are of no use on a few hundred pixels. */
export const MAX_RECORDS = 2000;

/**
 * The number, or null for anything else: a message may come from another version of the server.
 *
 * @param {unknown} value
 * @returns {number | null}
 */
export function finite(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/**
 * Records with one more. An evaluation is made after its step and joins the step's record. A run that goes on from a
 * checkpoint makes steps again: they replace the old ones, and what came later is dropped. The server does the same,
 * see `join_record` in `gdpo/runs/sequence.py`.
 *
 * @param {StepRecord[]} records in the order of their steps
 * @param {StepRecord} record
 * @returns {StepRecord[]}
 */
export function withRecord(records, record) {
  const step = finite(record?.step);
  if (step === null) return records;
  const before = records.filter((one) => one.step < step);
  const same = records.find((one) => one.step === step);
  const merged = record.rewards || !same ? record : { ...same, ...record };
  return [...before, merged].slice(-MAX_RECORDS);
}
