// @ts-check

/**
 * How many sockets a growing node should show: all up to the last one in use, and one more.
 *
 * @param {number[]} linked numbers of the linked sockets, from 1
 * @param {number} most
 * @returns {number}
 */
export function socketsWanted(linked, most) {
  return Math.min(most, Math.max(1, ...linked.map((number) => number + 1)));
}
