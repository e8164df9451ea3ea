/**
 * Under which name the program runs, as its messages say it.
 */

/** The program's own name. */
export const OWN_NAME = "blockwright";

/** What stands before a message, without the colon. */
export function programName(): string {
  return OWN_NAME;
}
