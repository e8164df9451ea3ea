/**
 * The cards of running jobs: progress, rate, io-status, and the controls. Block jobs are asked for over QMP; an export is a
 * stream of the page's and has a card of its own.
 */
import type { QmpClient, ReturnOf } from "../index.ts";
import { bytesText, byId, h, say } from "./dom.ts";

type JobInfo = ReturnOf<"query-block-jobs">[number];

/** How much of the newest rate counts. */
const SMOOTHING = 0.3;

/** One card. */
export class JobCard {
  readonly element: HTMLElement;
  readonly #state = h("span", { class: "job-state" });
  readonly #bar: HTMLProgressElement;
  readonly #pause: HTMLButtonElement | undefined;
  #last: { at: number; offset: number } | undefined;
  #rate = 0;
  #isPaused = false;

  /** Without `onPause` it can only be cancelled. */
  constructor(
    title: string,
    { onPause, onCancel }: { onPause?: (pause: boolean) => void; onCancel: () => void },
  ) {
    this.#bar = h("progress", { max: 1, value: 0, "aria-label": `Progress of ${title}` });
    this.#pause =
      onPause &&
      h("button", { type: "button", class: "small", onclick: () => onPause(!this.#isPaused) }, "Pause");
    const cancel = h("button", { type: "button", class: "small", onclick: onCancel }, "Cancel");
    this.element = h(
      "article",
      { class: "job", "aria-label": title },
      h("div", { class: "job-head" }, h("strong", {}, title), this.#state),
      this.#bar,
      h("div", { class: "buttons" }, this.#pause, cancel),
    );
  }

  /** Shows how far it is. `words` says what is going on. */
  show(how: {
    offset: number;
    total: number;
    words: string;
    trouble?: string;
    isPaused?: boolean;
    unit?: "bytes";
  }): void {
    const { offset, total, words, trouble = "", isPaused = false } = how;
    const now = performance.now();
    if (this.#last && now > this.#last.at) {
      const rate = Math.max(0, ((offset - this.#last.offset) * 1000) / (now - this.#last.at));
      this.#rate = isPaused ? 0 : this.#rate * (1 - SMOOTHING) + rate * SMOOTHING;
    }
    this.#last = { at: now, offset };
    this.#isPaused = isPaused;
    this.#bar.max = Math.max(1, total);
    this.#bar.value = offset;
    const percent = total === 0 ? 100 : Math.floor((offset / total) * 100);
    const amount = how.unit
      ? ` · ${bytesText(offset)} of ${bytesText(total)} · ${bytesText(this.#rate)}/s`
      : "";
    say(this.#state, `${words} · ${percent} %${amount}`);
    this.element.className = `job ${trouble}`;
    if (this.#pause) say(this.#pause, isPaused ? "Resume" : "Pause");
  }
}

/** The card of each block job. */
export class Jobs {
  readonly #qmp: QmpClient;
  readonly #cards = new Map<string, JobCard>();
  readonly #onError: (error: unknown) => void;
  readonly #list = byId("jobs");
  readonly #none = byId("jobs-none");

  constructor(qmp: QmpClient, onError: (error: unknown) => void) {
    this.#qmp = qmp;
    this.#onError = onError;
  }

  /** Adds a card that is not a block job's; the function removes it. */
  add(card: JobCard): () => void {
    this.#list.append(card.element);
    this.#none.hidden = true;
    return () => {
      card.element.remove();
      this.#none.hidden = this.#list.childElementCount > 0;
    };
  }

  /** Shows the jobs as they are. */
  show(jobs: readonly JobInfo[]): void {
    for (const id of this.#cards.keys()) if (!jobs.some(({ device }) => device === id)) this.#remove(id);
    for (const job of jobs) this.#card(job).show(wordsOf(job));
    this.#none.hidden = this.#list.childElementCount > 0;
  }

  #card({ device: id, type }: JobInfo): JobCard {
    const known = this.#cards.get(id);
    if (known) return known;
    const run = (command: Promise<unknown>): void => void command.catch(this.#onError);
    const card = new JobCard(`${type}: ${id}`, {
      onPause: (pause) =>
        run(this.#qmp.execute(pause ? "block-job-pause" : "block-job-resume", { device: id })),
      onCancel: () => run(this.#qmp.execute("block-job-cancel", { device: id, force: true })),
    });
    this.#cards.set(id, card);
    this.#list.append(card.element);
    return card;
  }

  #remove(id: string): void {
    this.#cards.get(id)?.element.remove();
    this.#cards.delete(id);
  }
}

function wordsOf(job: JobInfo): Parameters<JobCard["show"]>[0] {
  const status = job["io-status"];
  const trouble = status === "ok" ? "" : `, io-status ${status}`;
  return {
    offset: Number(job.offset),
    total: Number(job.len),
    words: `${job.status}${trouble}`,
    trouble: status === "ok" ? "" : status,
    isPaused: job.paused,
    unit: "bytes",
  };
}
