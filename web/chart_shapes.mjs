// @ts-check
// The chart's geometry and colours: numbers in, paths and colours out.

/**
 * @typedef {object} Box a rectangle on the chart, in pixels
 * @property {number} x
 * @property {number} y
 * @property {number} w
 * @property {number} h
 */

/** RdBu: red, white, blue; colour-blind people see the two ends apart. */
const DIVERGING = [
  ..."67001f b2182b d6604d f4a582 fddbc7 f7f7f7".split(" "),
  ..."d1e5f0 92c5de 4393c3 2166ac 053061".split(" "),
];
const READABLE = 3; // contrast that lines need, after WCAG 2

/**
 * @param {string} colour #rrggbb or rgb(r, g, b)
 * @returns {number[]} 0 to 255 each
 */
export function parseColour(colour) {
  const hex = /^#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(colour);
  if (hex) return hex.slice(1).map((part) => parseInt(part, 16));
  const parts = colour.match(/[\d.]+/g)?.map(Number) ?? [];
  return parts.length >= 3 ? parts.slice(0, 3) : [34, 34, 34];
}

/** @param {number[]} one @param {number[]} other @param {number} share of the other */
function mix(one, other, share) {
  const mixed = one.map((part, i) => Math.round(part + (other[i] - part) * share));
  return `#${mixed.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** @param {string} colour @returns {number} relative luminance, 0 (black) to 1 (white), after WCAG 2 */
export function luminance(colour) {
  const [r, g, b] = parseColour(colour).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** @param {string} one @param {string} other @returns {number} 1 to 21 */
export function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/**
 * The colour, on a dark ground made as much lighter as it takes to see it. Light grounds get the figure's own.
 *
 * @param {string} colour
 * @param {string} ground
 * @returns {string}
 */
export function visible(colour, ground) {
  if (luminance(ground) > 0.4) return colour;
  for (let share = 0; share < 1; share += 0.1) {
    const lighter = mix(parseColour(colour), [255, 255, 255], share);
    if (contrast(lighter, ground) >= READABLE) return lighter;
  }
  return "#ffffff";
}

/**
 * Colour of a cosine, always on the same scale: red -1, white 0, blue +1.
 *
 * @param {number} cosine
 * @returns {string}
 */
export function diverging(cosine) {
  const place = ((Math.min(1, Math.max(-1, cosine)) + 1) / 2) * (DIVERGING.length - 1);
  const left = Math.min(DIVERGING.length - 2, Math.floor(place));
  return mix(parseColour(DIVERGING[left]), parseColour(DIVERGING[left + 1]), place - left);
}

/**
 * A linear scale from a range of values to a range of pixels; an empty range gives its start.
 *
 * @param {number} low
 * @param {number} high
 * @param {number} from
 * @param {number} to
 * @returns {(value: number) => number}
 */
export function scale(low, high, from, to) {
  return (value) => (high === low ? from : from + ((value - low) / (high - low)) * (to - from));
}

/**
 * Round numbers inside a range, about `count` of them.
 *
 * @param {number} low
 * @param {number} high
 * @param {number} count
 * @returns {number[]}
 */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0) || !Number.isFinite(rough)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step =
    [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999) ?? rough;
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++)
    found.push(Number((n * step).toPrecision(12)));
  return found;
}

/**
 * The range of values with some room; the unit range if they fit into it, as most rewards do.
 *
 * @param {(number | null)[]} values
 * @returns {[number, number]}
 */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high || (low >= -0.001 && high <= 1.001)) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low >= 0 && low < high / 2 ? 0 : low - room, high + room];
}

/**
 * A line through points, interrupted where the record says null, not where a record is absent.
 *
 * @param {number[]} xs
 * @param {(number | null)[]} ys
 * @returns {string} for `d` of a path; a lone point becomes a short dash
 */
export function line(xs, ys) {
  /** @type {string[]} */
  const parts = [];
  let pen = false;
  xs.forEach((x, i) => {
    const y = ys[i];
    if (y === null) pen = false;
    else {
      parts.push(`${pen ? "L" : "M"}${round(x)} ${round(y)}`);
      if (!pen && (i + 1 === xs.length || ys[i + 1] === null)) parts.push("h2");
      pen = true;
    }
  });
  return parts.join("");
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}

/**
 * matplotlib's markers as polygons: corners, turn in degrees, radius of every second corner, width.
 *
 * @type {Record<string, [number, number, number, number]>}
 */
const POLYGONS = {
  o: [24, 0, 1, 0.85],
  s: [4, 45, 1, 1.1],
  D: [4, 0, 1, 1.1],
  d: [4, 0, 1, 0.65],
  "^": [3, 0, 1, 1.1],
  v: [3, 180, 1, 1.1],
  "<": [3, -90, 1, 1.1],
  ">": [3, 90, 1, 1.1],
  "*": [10, 0, 0.45, 1.2],
  p: [5, 0, 1, 1],
  h: [6, 0, 1, 1],
  H: [6, 30, 1, 1],
  8: [8, 22.5, 1, 1],
  ".": [24, 0, 1, 0.55],
};
/** Corners of a plus sign, in thirds. */
const PLUS = [
  ...[
    [-1, -3],
    [1, -3],
    [1, -1],
    [3, -1],
    [3, 1],
    [1, 1],
  ],
  ...[
    [1, 3],
    [-1, 3],
    [-1, 1],
    [-3, 1],
    [-3, -1],
    [-1, -1],
  ],
];

/**
 * A marker of matplotlib as a path.
 *
 * @param {string} kind
 * @param {number} x
 * @param {number} y
 * @param {number} size its radius
 * @returns {string}
 */
export function marker(kind, x, y, size) {
  const corners = kind === "P" || kind === "X" ? crossCorners(kind === "X") : polygonCorners(kind);
  return `M${corners.map(([dx, dy]) => `${round(x + dx * size)} ${round(y + dy * size)}`).join("L")}Z`;
}

/** @param {boolean} turned */
function crossCorners(turned) {
  const part = turned ? Math.SQRT1_2 : 1;
  return PLUS.map(([x, y]) =>
    turned ? [((x - y) * part) / 3, ((x + y) * part) / 3] : [x / 3, y / 3],
  );
}

/** @param {string} kind */
function polygonCorners(kind) {
  const [count, turn, inner, size] = POLYGONS[kind] ?? POLYGONS.o;
  const thin = kind === "d" ? 0.6 : 1;
  return Array.from({ length: count }, (_, n) => {
    const angle = ((360 * n) / count + turn - 90) * (Math.PI / 180);
    const radius = (n % 2 ? inner : 1) * (kind === "d" ? 1.1 : size);
    return [Math.cos(angle) * radius * thin, Math.sin(angle) * radius];
  });
}
