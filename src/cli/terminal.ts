/**
 * What the terminal is like: whether somebody watches, and whether colours are wanted. Source: no-color.org.
 */

/** Whether progress is drawn on stderr: it is a terminal and nobody's CI. */
export function isWatched(): boolean {
  return process.stderr.isTTY && (process.env["CI"] ?? "") === "";
}

/** Whether colours are written to `stream`: FORCE_COLOR, then NO_COLOR, then whether it is a terminal. */
export function hasColours(stream: { readonly isTTY?: boolean }): boolean {
  const forced = process.env["FORCE_COLOR"];
  if (forced !== undefined && forced !== "") return forced !== "0";
  if ((process.env["NO_COLOR"] ?? "") !== "") return false;
  return stream.isTTY === true && process.env["TERM"] !== "dumb";
}

/** A text in an SGR style (`31`, `1;32`), if `on`. */
export function styled(text: string, style: string, on: boolean): string {
  return on && style !== "" ? `\u001B[${style}m${text}\u001B[0m` : text;
}
