// Waiting in tests: for a state, never for a time. A busy machine, or a disk that stands still for a while, fails nothing.

/** What has not come after so long, ms, never will: it hangs. */
export const HANG_MS = 300_000;

/** Waits until it is so; throws when that never comes. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + HANG_MS;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`it never came: ${what}`);
    await new Promise((resolve) => {
      setTimeout(resolve, 25);
    });
  }
}
