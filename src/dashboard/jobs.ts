/**
 * The cards of running jobs: progress, rate, io-status, and the controls. Block jobs are asked for over QMP; an export is a
 * stream of the page's and has a card of its own.
 */
import type { QmpClient, ReturnOf } from "../index.ts";
import { bytesText, byId, h, say } from "./dom.ts";
import type { Policy } from "./session.ts";

type JobInfo = ReturnOf<"query-block-jobs">[number];

/** How much of the newest rate counts. */
const SMOOTHING = 0.3;

/** What a card's controls do; what is left out has no control. */
export interface CardActions {
  onPause?: (pause: boolean) => void;
  onCancel: () => void;
  /** Shown while the job is ready; `finish` is its button's text. */
  onFinish?: () => void;
  finish?: string;
  /** Bytes a second; 0: no limit. */
  onSpeed?: (speed: number) => void;
  onPolicy?: (policy: Policy) => void;
  policy?: Policy | undefined;
}

/** What a card shows. */
interface Shown {
  offset: number;
  total: number;
  /** What is going on. */
  words: string;
  trouble?: string;
  isPaused?: boolean;
  isReady?: boolean;
  speed?: number;
  unit?: "bytes";
}

/** A copy of the form's choice of the id `like`, as a small one with its own name. */
function choiceLike(like: string, title: string, onChoice: (value: string) => void): HTMLSelectElement {
  const options = [...byId<HTMLSelectElement>(like).options].map(({ value, text }) =>
    h("option", { value }, text.replace(/:.*/, "")),
  );
  const change = ({ currentTarget }: Event): void => onChoice((currentTarget as HTMLSelectElement).value);
  return h("select", { class: "small", "aria-label": title, onchange: change }, ...options);
}

/** One card. */
export class JobCard {
  readonly element: HTMLElement;
  readonly #state = h("span", { class: "job-state" });
  readonly #bar: HTMLProgressElement;
  readonly #pause: HTMLButtonElement | undefined;
  readonly #finish: HTMLButtonElement | undefined;
  readonly #speed: HTMLSelectElement | undefined;
  #last: { at: number; offset: number } | undefined;
  #rate = 0;
  #isPaused = false;

  constructor(title: string, { onPause, onCancel, onFinish, onSpeed, onPolicy, ...facts }: CardActions) {
    const button = (text: string, onclick: () => void): HTMLButtonElement =>
      h("button", { type: "button", class: "small", onclick }, text);
    this.#bar = h("progress", { max: 1, value: 0, "aria-label": `Progress of ${title}` });
    this.#pause = onPause && button("Pause", () => onPause(!this.#isPaused));
    this.#finish = onFinish && button(facts.finish ?? "Finish", onFinish);
    this.#finish?.classList.add("primary");
    this.#speed = onSpeed && choiceLike("speed", `Speed of ${title}`, (value) => onSpeed(Number(value)));
    const policy =
      onPolicy && choiceLike("policy", `On an error of ${title}`, (value) => onPolicy(value as Policy));
    if (policy && facts.policy) policy.value = facts.policy;
    const told =
      !policy && facts.policy ? h("span", { class: "quiet" }, `on an error: ${facts.policy}`) : undefined;
    this.element = h(
      "article",
      { class: "job", "aria-label": title },
      h("div", { class: "job-head" }, h("strong", {}, title), this.#state),
      this.#bar,
      h(
        "div",
        { class: "buttons" },
        this.#finish,
        this.#pause,
        button("Cancel", onCancel),
        this.#speed,
        policy,
        told,
      ),
    );
  }

  /** Shows how far it is. */
  show(how: Shown): void {
    const { offset, total, words, trouble = "", isPaused = false, isReady = false, speed } = how;
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
    if (this.#finish) this.#finish.hidden = !isReady;
    if (this.#speed && speed !== undefined && document.activeElement !== this.#speed)
      this.#speed.value = String(speed);
  }
}

/** What the cards ask of the page. */
export interface JobsInit {
  qmp: QmpClient;
  onError: (error: unknown) => void;
  policyOf: (id: string) => Policy | undefined;
  /** The stream keeps what it has brought, so it can be begun anew under another policy. */
  restart: (id: string, policy: Policy) => Promise<void>;
}

/** The card of each block job. */
export class Jobs {
  readonly #init: JobsInit;
  readonly #cards = new Map<string, JobCard>();
  readonly #list = byId("jobs");
  readonly #none = byId("jobs-none");

  constructor(init: JobsInit) {
    this.#init = init;
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
    for (const job of jobs) this.#card(job).show(shownOf(job));
    this.#none.hidden = this.#list.childElementCount > 0;
  }

  #card({ device: id, type }: JobInfo): JobCard {
    const known = this.#cards.get(id);
    if (known) return known;
    const { qmp, onError, policyOf, restart } = this.#init;
    const run = (command: Promise<unknown>): void => void command.catch(onError);
    const isCommit = type === "commit";
    const card = new JobCard(type === id ? type : `${type}: ${id}`, {
      onPause: (pause) => run(qmp.execute(pause ? "block-job-pause" : "block-job-resume", { device: id })),
      onCancel: () => run(qmp.execute("block-job-cancel", { device: id, force: true })),
      finish: isCommit ? "Finish the commit" : "Finish the copy",
      // A mirror that is ready and cancelled leaves a copy of this moment.
      onFinish: () => run(qmp.execute(isCommit ? "block-job-complete" : "block-job-cancel", { device: id })),
      onSpeed: (speed) => run(qmp.execute("block-job-set-speed", { device: id, speed })),
      policy: policyOf(id),
      ...(type === "stream" ? { onPolicy: (policy: Policy) => run(restart(id, policy)) } : {}),
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

function shownOf(job: JobInfo): Shown {
  const status = job["io-status"];
  const trouble = status === "ok" ? "" : `, io-status ${status}`;
  return {
    offset: Number(job.offset),
    total: Number(job.len),
    words: `${job.status}${trouble}`,
    trouble: status === "ok" ? "" : status,
    isPaused: job.paused,
    isReady: job.ready,
    speed: Number(job.speed),
    unit: "bytes",
  };
}
