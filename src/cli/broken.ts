/**
 * The end of a program that is broken itself: an invariant does not hold, or something was thrown that nobody has caught. It is told by
 * name, words and a few places, without the line of source, which is a whole bundle, and by a status that no verb has a meaning for.
 */
import { writeSync } from "node:fs";
import { endAtOnce } from "../platform/node/exit.ts";
import { programName } from "./program.ts";

/** The status of a program that abort() ends. */
export const BROKEN_STATUS = 134;
const MOST_PLACES = 10;

/** Name and words of what was thrown, and where it was. */
export function brokenText(thrown: unknown): string {
  if (!(thrown instanceof Error)) return `uncaught: ${String(thrown)}`;
  const places = (thrown.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  return [`${thrown.name}: ${thrown.message}`, ...places.slice(0, MOST_PLACES)].join("\n");
}

/** From now on the program ends so where something is thrown that nobody catches. */
export function endWhereBroken(): void {
  process.on("uncaughtException", (thrown: unknown) => {
    try {
      // Streams may be what is broken.
      writeSync(2, `${programName()}: ${brokenText(thrown)}\n`);
    } catch {
      // Nobody reads it.
    }
    endAtOnce(BROKEN_STATUS);
  });
}
