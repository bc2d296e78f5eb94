// @ts-check
// What a node's result says, as one text.

/**
 * The result of one run as one text.
 *
 * @param {{text?: unknown, answers?: unknown}} result What the node put into its `ui`.
 * @returns {string}
 */
export function resultText(result) {
  const texts = Array.isArray(result?.text) ? result.text : [];
  const answers = Array.isArray(result?.answers) ? result.answers : [];
  const blocks = answers.map((answer) =>
    Object.entries(answer ?? {})
      .map(([column, text]) => `${column}: ${text ?? "-"}`)
      .join("\n"),
  );
  return [...texts.map(String), ...blocks].join("\n\n");
}
