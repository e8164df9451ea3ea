// Waiting for the jobs of a queue that forgets all, at every moment at which it can; and what is told of one that can't be asked.
import { expect, it } from "vitest";
import { queueReason } from "../../../../src/cli/fleet/backend.ts";
import { waitForAll } from "../../../../src/cli/fleet/wait.ts";
import type { FleetJob } from "../../../../src/fleet/jobs.ts";
import type { FleetCounts, FleetQueue } from "../../../../src/fleet/queue.ts";

const jobs: FleetJob[] = ["a", "b"].map((id) => ({
  ...{ id, kind: "verify", source: `/${id}`, options: {}, priority: 0 },
}));

/** A queue whose jobs are done the second time that it is asked after them; it forgets all before the call of a number. */
class Forgetful implements Pick<FleetQueue, "submit" | "counts"> {
  readonly #forgetsAt: number;
  #isKnown = true;
  #asked = 0;
  calls = 0;

  constructor(forgetsAt: number) {
    this.#forgetsAt = forgetsAt;
  }

  #call(): void {
    if (this.calls++ === this.#forgetsAt) [this.#isKnown, this.#asked] = [false, 0];
  }

  submit(): Promise<{ added: number; known: number }> {
    this.#call();
    const added = this.#isKnown ? 0 : jobs.length;
    this.#isKnown = true;
    return Promise.resolve({ added, known: jobs.length - added });
  }

  counts(): Promise<FleetCounts> {
    this.#call();
    if (!this.#isKnown) return Promise.resolve({ queued: 0, running: 0, done: 0, failed: 0 });
    this.#asked += 1;
    return Promise.resolve({
      ...{ queued: this.#asked === 1 ? 1 : 0, running: this.#asked === 1 ? 1 : 0 },
      ...{ done: this.#asked === 1 ? 0 : 2, failed: 0 },
    });
  }
}

it.each([0, 1, 2, 3])("ends when all are done, forgotten before call %i or not", async (forgetsAt) => {
  const queue = new Forgetful(forgetsAt);
  const said: string[] = [];
  const { signal } = new AbortController();
  await waitForAll(queue, jobs, { signal, note: (text) => said.push(text), everyMs: 0 });
  expect(said).toEqual(["2 jobs were lost by the queue and are submitted again"]);
  expect(await queue.counts()).toMatchObject({ done: 2, queued: 0, running: 0 });
  expect(queue.calls).toBeGreaterThan(forgetsAt + 3);
});

it("asks a queue again that does not answer, says so once, and ends when it is told to", async () => {
  const abort = new AbortController();
  const queue = new Forgetful(-1);
  const said: string[] = [];
  const note = (text: string): void => void said.push(text);
  let asked = 0;
  const counts = (): Promise<FleetCounts> => {
    asked += 1;
    if (asked === 7) abort.abort();
    if (asked === 4) return Promise.resolve({ queued: 1, running: 0, done: 0, failed: 0 });
    return Promise.reject(new Error(asked === 3 ? "it is loading" : "it is away"));
  };
  await waitForAll({ submit: () => queue.submit(), counts }, jobs, {
    signal: abort.signal,
    note,
    everyMs: 0,
  });
  expect(said).toEqual(["away", "loading", "away"].map((what) => `the queue does not answer: it is ${what}`));
});

it.each([
  "NOAUTH HELLO must be called",
  "SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string",
])("says of a server that answers '%s' that it wants a password", (text) => {
  expect(queueReason(new Error("no answer", { cause: new Error(text) }))).toContain(
    "the server wants a password",
  );
  expect(queueReason(new Error("no answer"))).toBe("no answer");
});
