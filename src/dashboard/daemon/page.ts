/**
 * The daemon's dashboard: what its engine is made of and does, kept true by events and a question every second; QMP and nothing else.
 */
import type { QmpClient } from "../../server/monitor/client.ts";
import { byId, h, say } from "../dom.ts";
import { LogView } from "../log-view.ts";
import { DisksView, type FailedPlace } from "./disks-view.ts";
import { disksOf, GraphView } from "./graph-view.ts";
import { JobsView, type JobView } from "./jobs-view.ts";
import { ask, type Answer, keepLink } from "./link.ts";
import { RatePlot } from "./rate-plot.ts";

/** Between two questions, ms. */
const EVERY_MS = 1000;
/** Events that are no news for people. */
const QUIET = new Set(["JOB_STATUS_CHANGE"]);
const BAD = new Set(["BLOCK_JOB_ERROR", "BLOCK_IO_ERROR", "BLOCK_IMAGE_CORRUPTED"]);

/** The page. */
class Page {
  readonly #log = new LogView(byId("log"));
  readonly #graph = new GraphView();
  readonly #disks = new DisksView();
  readonly #plot = new RatePlot();
  readonly #jobs: JobsView;
  #client: QmpClient | undefined;
  #isAsking = false;
  #isAskedAgain = false;

  constructor() {
    this.#jobs = new JobsView({
      client: () => this.#client,
      onError: (error) => this.#trouble(error),
      onDone: () => this.refresh(),
    });
    setInterval(() => this.refresh(), EVERY_MS);
    document.addEventListener("visibilitychange", () => this.refresh());
  }

  start(): void {
    void keepLink({ onUp: (client) => this.#up(client), onDown: () => this.#down() });
  }

  #up(client: QmpClient): void {
    this.#client = client;
    this.#pill("Connected", "good");
    byId("trouble").hidden = true;
    this.#log.add("Connected to the daemon.", "good");
    void this.#follow(client);
    this.refresh();
  }

  #down(): void {
    if (this.#client) this.#log.add("The connection to the daemon is lost.", "bad");
    this.#client = undefined;
    this.#pill("Not connected", "bad");
    this.#trouble("The daemon does not answer. If it was started anew, open the address that it prints.");
  }

  async #follow(client: QmpClient): Promise<void> {
    for await (const { event, data } of client.events()) {
      if (!QUIET.has(event)) this.#log.add(`${event} ${wordsOf(data)}`, BAD.has(event) ? "bad" : "");
      this.refresh();
    }
  }

  /** Asks anew, once whoever asks now has his answers. */
  refresh(): void {
    this.#isAskedAgain = true;
    if (!this.#isAsking) void this.#askAll();
  }

  async #askAll(): Promise<void> {
    this.#isAsking = true;
    while (this.#isAskedAgain && this.#client && !document.hidden) {
      this.#isAskedAgain = false;
      await this.#ask(this.#client).catch((error: unknown) => {
        if (this.#client) this.#trouble(error);
      });
    }
    this.#isAsking = false;
  }

  async #ask(client: QmpClient): Promise<void> {
    const [jobs, blockJobs, facts] = [
      await client.execute("query-jobs"),
      await client.execute("query-block-jobs"),
      await ask(client, "x-blockwright-query-jobs"),
    ];
    const views = jobs.map((job) => ({
      job,
      block: blockJobs.find(({ device }) => device === job.id),
      facts: facts.find(({ id }) => id === job.id),
    }));
    const copies = blockJobs.map(({ device, offset }) => ({ id: device, offset: Number(offset) }));
    this.#jobs.show(views, this.#plot.add(copies));
    this.#showExports(await ask(client, "x-blockwright-query-exports"));
    const graph = await client.execute("x-debug-query-block-graph");
    this.#graph.show(graph, await client.execute("query-named-block-nodes", { flat: true }));
    await this.#disks.show(client, disksOf(graph), views.flatMap(failedPlace));
    byId("main").setAttribute("aria-busy", "false");
  }

  #showExports(rows: Answer<"x-blockwright-query-exports">): void {
    const texts = rows.map(({ id, type, clients, ...row }) => {
      const state = row["shutting-down"] ? "is being removed" : "there";
      return [id, type, row["node-name"], String(clients), state];
    });
    const list = byId("export-rows");
    const key = JSON.stringify(texts);
    if (list.dataset["shown"] === key) return;
    list.dataset["shown"] = key;
    list.replaceChildren(
      ...texts.map(([id = "", ...cells]) =>
        h("tr", {}, h("th", { scope: "row" }, id), ...cells.map((cell) => h("td", {}, cell))),
      ),
    );
    byId("exports-none").hidden = rows.length > 0;
    byId("exports").hidden = rows.length === 0;
  }

  #pill(text: string, kind: "good" | "bad"): void {
    const pill = byId("pill-link");
    say(pill, text);
    pill.className = `pill ${kind}`;
  }

  #trouble(what: unknown): void {
    const text = what instanceof Error ? what.message : String(what);
    const place = byId("trouble");
    place.hidden = false;
    say(place, text);
  }
}

function failedPlace({ facts, block }: JobView): FailedPlace[] {
  const failure = facts?.failure;
  const node = failure?.["node-name"];
  if (!failure || node === undefined || block?.["io-status"] === "ok") return [];
  return [{ node, offset: Number(failure.offset ?? 0), bytes: Number(failure.bytes ?? 1) }];
}

function wordsOf(data: object): string {
  return Object.entries(data)
    .map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : String(value)}`)
    .join(", ");
}

new Page().start();
