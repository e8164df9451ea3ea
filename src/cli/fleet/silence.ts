/**
 * Servers that take a question and say nothing: whoever asks gives up when nothing has come for a while, however long an answer is.
 *
 * Invariant: time in which this process stood still is no silence.
 */
const TICK_MS = 1000;
/** Ticks without a byte. */
const MOST_TICKS = 10;
/** How long a server may take to say goodbye. */
const GOODBYE_MS = 2000;

/** What is asked, or an error when its server has said nothing for ten seconds. `heard`: bytes that have come. */
export async function answered<T>(asked: Promise<T>, heard: () => number): Promise<T> {
  let [last, ticks] = [heard(), 0];
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_resolve, reject) => {
    timer = setInterval(() => {
      const now = heard();
      ticks = now === last ? ticks + 1 : 0;
      last = now;
      if (ticks >= MOST_TICKS)
        reject(new Error(`no word from its server for ${(MOST_TICKS * TICK_MS) / 1000} s`));
    }, TICK_MS);
  });
  try {
    return await Promise.race([asked, silence]);
  } finally {
    clearInterval(timer);
  }
}

/** Waits for a server's goodbye, and not long. */
export async function goodbye(said: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, GOODBYE_MS);
  });
  try {
    await Promise.race([said.catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}
