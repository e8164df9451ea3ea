/**
 * The jobs: how far each is, how fast, whether an error has stopped it and where, and a button for every verb that its state allows.
 */
import type { QmpClient } from "../../server/monitor/client.ts";
import type { ReturnOf } from "../../wire/qapi/index.ts";
import { byId, bytesText, h, say } from "../dom.ts";
import type { Answer } from "./link.ts";

type Facts = Answer<"x-blockwright-query-jobs">[number];

/** All that is known of a job. */
export interface JobView {
  readonly job: ReturnOf<"query-jobs">[number];
  readonly block: ReturnOf<"query-block-jobs">[number] | undefined;
  readonly facts: Facts | undefined;
}

/** A button: what it says, and what it does. */
interface VerbButton {
  readonly verb: string;
  readonly text: string;
  readonly run: (client: QmpClient, id: string, view: JobView) => Promise<unknown>;
}

const BUTTONS: readonly VerbButton[] = [
  { verb: "resume", text: "Resume", run: (client, id) => client.execute("job-resume", { id }) },
  { verb: "pause", text: "Pause", run: (client, id) => client.execute("job-pause", { id }) },
  { verb: "complete", text: "Complete", run: (client, id) => client.execute("job-complete", { id }) },
  { verb: "finalize", text: "Finalize", run: (client, id) => client.execute("job-finalize", { id }) },
  { verb: "dismiss", text: "Dismiss", run: (client, id) => client.execute("job-dismiss", { id }) },
  { verb: "cancel", text: "Cancel", run: (client, id, view) => cancel(client, id, view) },
];

const MiB = 1024 * 1024;

/** A block job that an error or its user has paused is cancelled by force only. */
function cancel(client: QmpClient, id: string, { block, facts }: JobView): Promise<unknown> {
  if (!block) return client.execute("job-cancel", { id });
  return client.execute("block-job-cancel", { device: id, force: facts?.["user-paused"] ?? false });
}

/** What cards ask of the page. */
interface Init {
  readonly client: () => QmpClient | undefined;
  readonly onError: (error: unknown) => void;
  /** Something was done: what is shown is old. */
  readonly onDone: () => void;
}

/** One job's card. */
class JobCard {
  readonly element: HTMLElement;
  readonly #state = h("span", { class: "job-state" });
  readonly #bar = h("progress", { max: 1, value: 0 });
  readonly #policy = h("p", { class: "quiet" });
  readonly #failure = h("p", { class: "failure", role: "status" });
  readonly #buttons = new Map<string, HTMLButtonElement>();
  readonly #speed: HTMLFormElement;
  readonly #speedField = h("input", { type: "number", min: 0, step: "any", class: "small" });
  readonly #init: Init;
  #view: JobView;

  constructor(view: JobView, init: Init) {
    this.#view = view;
    this.#init = init;
    const { id, type } = view.job;
    const title = `${type} ${id}`;
    this.#bar.setAttribute("aria-label", `Progress of ${title}`);
    for (const one of BUTTONS) {
      const onclick = (): void => this.#run((client) => one.run(client, id, this.#view));
      const button = h("button", { type: "button", class: "small", onclick }, one.text);
      button.setAttribute("aria-label", `${one.text} ${title}`);
      this.#buttons.set(one.verb, button);
    }
    this.#speedField.setAttribute("aria-label", `Speed limit of ${title}, MiB/s; 0: none`);
    this.#speed = h(
      "form",
      { class: "speed", onsubmit: (event) => this.#setSpeed(event) },
      h("label", {}, "Limit, MiB/s ", this.#speedField),
      h("button", { type: "submit", class: "small", "aria-label": `Set the speed of ${title}` }, "Set"),
    );
    const head = h("div", { class: "job-head" }, h("strong", {}, title), this.#state);
    const buttons = h("div", { class: "buttons" }, ...this.#buttons.values(), this.#speed);
    this.element = h(
      "article",
      { class: "job", "aria-label": title },
      ...[head, this.#bar, this.#policy, this.#failure, buttons],
    );
  }

  show(view: JobView, rate: number | undefined): void {
    this.#view = view;
    const { job, block, facts } = view;
    const [done, total] = [job["current-progress"], job["total-progress"]].map(Number) as [number, number];
    this.#bar.max = Math.max(1, total);
    this.#bar.value = done;
    const percent = total === 0 ? 0 : Math.floor((100 * done) / total);
    const amount = block ? ` · ${bytesText(done)} of ${bytesText(total)}` : "";
    const speed = rate === undefined ? "" : ` · ${bytesText(rate)}/s`;
    say(this.#state, `${job.status} · ${percent} %${amount}${speed}`);
    say(this.#policy, policyText(view));
    say(this.#failure, failureText(view));
    this.#failure.hidden = this.#failure.textContent === "";
    const io = block?.["io-status"] ?? "ok";
    this.element.className = `job ${io === "ok" ? "" : io}`;
    const verbs: readonly string[] = facts?.verbs ?? [];
    for (const [verb, button] of this.#buttons) button.hidden = !verbs.includes(verb);
    this.#speed.hidden = !verbs.includes("set-speed");
    if (block && document.activeElement !== this.#speedField)
      this.#speedField.value = String(Number(block.speed) / MiB);
  }

  #setSpeed(event: Event): void {
    event.preventDefault();
    const { id } = this.#view.job;
    const speed = Math.round(Number(this.#speedField.value) * MiB);
    this.#run((client) => client.execute("block-job-set-speed", { device: id, speed }));
  }

  #run(what: (client: QmpClient) => Promise<unknown>): void {
    const client = this.#init.client();
    if (client) what(client).then(this.#init.onDone, this.#init.onError);
  }
}

function policyText({ block, facts }: JobView): string {
  const source = facts?.["on-source-error"];
  const target = facts?.["on-target-error"];
  const parts = [
    block ? `io-status ${block["io-status"]}` : undefined,
    source === undefined ? undefined : `errors of the source: ${source}`,
    target === undefined ? undefined : `of the target: ${target}`,
  ];
  return parts.filter((part) => part !== undefined).join(" · ");
}

/** The last error, in words. */
export function failureText({ job, facts }: JobView): string {
  const failure = facts?.failure;
  const ended = job.error === undefined ? "" : `Failed: ${job.error}. `;
  if (!failure) return ended;
  const { operation, errno, action, offset, bytes } = failure;
  const node = failure["node-name"];
  const where =
    offset === undefined ? "" : ` at ${offset}${bytes === undefined ? "" : `, ${bytesText(Number(bytes))}`}`;
  const what = `${operation}${node === undefined ? "" : ` of ${node}`}${where}: ${errno}`;
  return `${ended}Last error: ${what}; action: ${action}.`;
}

/** The cards. */
export class JobsView {
  readonly #init: Init;
  readonly #cards = new Map<string, JobCard>();
  readonly #list = byId("jobs");
  readonly #none = byId("jobs-none");

  constructor(init: Init) {
    this.#init = init;
  }

  show(views: readonly JobView[], rates: ReadonlyMap<string, number>): void {
    for (const [id, card] of this.#cards) {
      if (views.some(({ job }) => job.id === id)) continue;
      card.element.remove();
      this.#cards.delete(id);
    }
    for (const view of views) {
      const { id } = view.job;
      let card = this.#cards.get(id);
      if (!card) {
        card = new JobCard(view, this.#init);
        this.#cards.set(id, card);
        this.#list.append(card.element);
      }
      card.show(view, view.block && rates.get(id));
    }
    this.#none.hidden = views.length > 0;
  }
}
