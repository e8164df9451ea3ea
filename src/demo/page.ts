/**
 * The demo page: a guest on a disk that arrives while it runs, the map of the disk, its jobs, and things to break.
 */
import { type AnyClientEvent, persistStorage, storageStatus } from "../browser.ts";
import { bytesText, byId, h, say } from "./dom.ts";
import { type Guest, boot } from "./guest.ts";
import { JobCard, Jobs } from "./jobs.ts";
import { MapModel, states } from "./map-model.ts";
import { MapView } from "./map-view.ts";
import { DISK, FILL, Session } from "./session.ts";
import { LogView } from "./log-view.ts";

const CLUSTER = 65_536;
/** What a stream has under way at once, bytes. */
const WINDOW = 4 * 1024 * 1024;
const SNAPSHOT = "from the page";
const POLL_MS = 350;

const STATE_NAMES: Record<(typeof states)[number], string> = {
  absent: "on the server",
  zero: "zeroes",
  local: "here",
  dirty: "written",
  flight: "in flight",
  failed: "failed",
};

/** The page. */
class Page {
  readonly #session: Session;
  readonly #model: MapModel;
  readonly #view: MapView;
  readonly #jobs: Jobs;
  readonly #log = new LogView(byId("log"));
  #guest: Guest | undefined;
  #isCut = false;
  #isFull = false;
  #isOver = false;
  #fillWasRunning = false;

  constructor(session: Session) {
    this.#session = session;
    this.#model = new MapModel(session.disk.length, CLUSTER);
    this.#view = new MapView(byId("map"), this.#model);
    this.#jobs = new Jobs(session.engine.qmp, (error) => this.#fail(error));
    byId("legend").append(
      ...states.map((state) =>
        h(
          "li",
          {},
          h("span", { class: `swatch ${state}`, "aria-hidden": "true" }),
          STATE_NAMES[state],
          h("b", {}, "0"),
        ),
      ),
    );
    session.engine.qmp.addEventListener("event", (event) =>
      this.#hear((event as CustomEvent<AnyClientEvent>).detail),
    );
    void session.engine.ended.then((reason) => this.#isOver || this.#fail(reason));
  }

  async start(): Promise<void> {
    this.#wire();
    await this.#refreshMap();
    const canvas = { model: this.#model, changed: () => this.#view.wake() };
    this.#guest = await boot(this.#session, byId("console"), canvas);
    this.#pill("guest", "good", "Guest: running");
    this.#log.add("The guest boots", "good");
    if (!(await this.#session.isComplete())) await this.#fill();
    else this.#log.add("The whole disk is here: the server is not needed", "good");
    await this.#showStorage();
    void this.#poll();
  }

  #wire(): void {
    const on = (id: string, act: () => unknown): void =>
      byId(id).addEventListener(
        "click",
        () => void Promise.resolve(act()).catch((error: unknown) => this.#fail(error)),
      );
    on("cut", () => this.#cut(!this.#isCut));
    on("fill-up", () => this.#fillUp(!this.#isFull));
    on("reload", () => location.reload());
    on("fill-start", () => this.#fill());
    on("guest-continue", () => this.#session.engine.qmp.execute("cont"));
    on("persist", () => this.#persist());
    on("snapshot", () => this.#snapshot());
    on("revert", () => this.#revert());
    on("start-over", () => this.#startOver());
    on("export", () => this.#export());
    byId("speed").addEventListener("change", () => void this.#setSpeed());
    byId("policy").addEventListener(
      "change",
      () => void this.#setPolicy().catch((error: unknown) => this.#fail(error)),
    );
    byId("type").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = byId<HTMLInputElement>("type-text");
      void this.#guest?.type(field.value);
      field.value = "";
    });
  }

  get #speed(): number {
    return Number(byId<HTMLSelectElement>("speed").value);
  }

  async #fill(): Promise<void> {
    const policy = byId<HTMLSelectElement>("policy").value as "stop";
    await this.#session.fill(policy, this.#speed);
  }

  async #setSpeed(): Promise<void> {
    const { qmp } = this.#session.engine;
    // It may have ended just now.
    await qmp.execute("block-job-set-speed", { device: FILL, speed: this.#speed }).catch(() => undefined);
  }

  /** A job keeps its policy, so another one needs another job; what has arrived stays. */
  async #setPolicy(): Promise<void> {
    const { qmp } = this.#session.engine;
    if (!(await qmp.execute("query-block-jobs")).some(({ device }) => device === FILL)) return;
    const over = new Promise<void>((resolve) => {
      const stop = qmp.on("BLOCK_JOB_CANCELLED", () => (stop(), resolve()));
    });
    await qmp.execute("block-job-cancel", { device: FILL, force: true });
    await over;
    await this.#fill();
  }

  async #cut(isCut: boolean): Promise<void> {
    await fetch(`/network?state=${isCut ? "cut" : "mended"}`, { method: "POST" });
    this.#isCut = isCut;
    this.#press("cut", isCut, isCut ? "Mend the network" : "Cut the network");
    this.#pill("network", isCut ? "bad" : "good", isCut ? "Network: cut" : "Network: up");
    this.#log.add(isCut ? "You cut the network" : "You mended the network", isCut ? "bad" : "good");
  }

  #fillUp(isFull: boolean): void {
    this.#session.setFull(isFull);
    this.#isFull = isFull;
    this.#press("fill-up", isFull, isFull ? "Make room again" : "Use up the storage");
    this.#pill("storage", isFull ? "bad" : "good", isFull ? "Storage: full" : "Storage: free");
    this.#log.add(isFull ? "You used up the storage" : "You made room", isFull ? "bad" : "good");
  }

  async #persist(): Promise<void> {
    const isKept = await persistStorage();
    this.#log.add(
      isKept ? "The browser keeps the disk" : "The browser does not promise to keep the disk",
      isKept ? "good" : "",
    );
    await this.#showStorage();
  }

  async #snapshot(): Promise<void> {
    const { disk } = this.#session;
    const old = (await disk.snapshots()).find(({ name }) => name === SNAPSHOT);
    if (old) await disk.removeSnapshot(old.id);
    await disk.createSnapshot(SNAPSHOT);
    byId<HTMLButtonElement>("revert").disabled = false;
    this.#log.add("The disk is kept as it is now, in a snapshot", "good");
  }

  async #revert(): Promise<void> {
    await this.#endGuest();
    await this.#session.disk.applySnapshot(SNAPSHOT);
    await this.#session.engine.close();
    location.reload();
  }

  async #startOver(): Promise<void> {
    await this.#endGuest();
    await this.#session.forget();
    location.reload();
  }

  async #endGuest(): Promise<void> {
    this.#isOver = true;
    const { qmp } = this.#session.engine;
    for (const { device } of await qmp.execute("query-block-jobs"))
      await qmp.execute("block-job-cancel", { device, force: true });
    await this.#guest?.end();
  }

  async #export(): Promise<void> {
    const choice = byId<HTMLSelectElement>("export-format").value;
    const format = choice === "raw" ? "raw" : "qcow2";
    const abort = new AbortController();
    const card = new JobCard(`export: ${choice.replace("-", ", ")}`, { onCancel: () => abort.abort() });
    const remove = this.#jobs.add(card);
    try {
      const stream = await this.#session.disk.export({
        format,
        compress: choice === "qcow2-compressed",
        signal: abort.signal,
        onProgress: (offset, total) => card.show({ offset, total, words: "exporting" }),
      });
      const blob = await blobOf(stream);
      const link = h("a", { href: URL.createObjectURL(blob), download: `disk.${format}` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      this.#log.add(`The disk is exported: ${bytesText(blob.size)}`, "good");
    } catch (error) {
      if (!abort.signal.aborted) throw error;
      this.#log.add("The export was cancelled");
    } finally {
      remove();
    }
  }

  #hear({ event, data }: AnyClientEvent): void {
    const facts = Object.entries(data)
      .filter(([, value]) => typeof value !== "object")
      .map(([name, value]) => `${name}=${String(value)}`);
    const isBad = /ERROR|STOP/.test(event) || "error" in data;
    this.#log.add(
      `${event} ${facts.join(" ")}`,
      isBad ? "bad" : /COMPLETED|RESUME/.test(event) ? "good" : "",
    );
    if (event === "STOP" || event === "RESUME") {
      const isStopped = event === "STOP";
      this.#pill("guest", isStopped ? "bad" : "good", isStopped ? "Guest: stopped" : "Guest: running");
      byId("guest-continue").hidden = !isStopped;
    }
  }

  /** Shows what the worker says, again and again. */
  async #poll(): Promise<void> {
    for (let round = 0; !this.#isOver; round++) {
      try {
        await this.#look(round);
      } catch (error) {
        if (!this.#isOver) this.#fail(error);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async #look(round: number): Promise<void> {
    const jobs = await this.#session.engine.qmp.execute("query-block-jobs");
    this.#jobs.show(jobs);
    const fill = jobs.find(({ device }) => device === FILL);
    if (fill || this.#fillWasRunning || round % 8 === 0) await this.#refreshMap();
    if (fill) {
      const isStuck = fill["io-status"] !== "ok";
      const how = isStuck ? "failed" : fill.paused ? "rests" : "runs";
      this.#model.job(Number(fill.offset), isStuck ? CLUSTER : WINDOW, how);
      if (isStuck && byId<HTMLInputElement>("auto-resume").checked && round % 6 === 0) await this.#probe();
    } else this.#model.job(0, 0, "rests");
    this.#fillWasRunning = fill !== undefined;
    byId("fill-start").hidden = fill !== undefined || this.#model.missing === 0;
    this.#view.wake();
    for (const [at, item] of [...byId("legend").children].entries())
      say(item.lastElementChild!, String(this.#model.counts[at]));
    if (round % 8 === 0) await this.#showStorage();
  }

  /** Resumes what an error has stopped, once the server answers. */
  async #probe(): Promise<void> {
    const isThere = await fetch(this.#session.url, {
      headers: { range: "bytes=0-0" },
      cache: "no-store",
    }).then(
      ({ ok }) => ok,
      () => false,
    );
    if (!isThere || this.#isFull) return;
    const { qmp } = this.#session.engine;
    await qmp.execute("block-job-resume", { device: FILL });
    if (!(await qmp.execute("query-status")).running) await qmp.execute("cont");
  }

  async #refreshMap(): Promise<void> {
    for await (const { offset, bytes, depth, zero } of this.#session.disk.map()) {
      this.#model.store(offset, bytes, zero ? "zero" : depth > 0 ? "absent" : "local");
    }
    this.#view.wake();
    byId("map").setAttribute("aria-label", this.#model.summary);
    const missing = this.#model.missing;
    const share = Math.floor((1 - missing / this.#model.clusters) * 100);
    this.#pill(
      "disk",
      missing === 0 ? "good" : "warn",
      missing === 0 ? "Disk: all here" : `Disk: ${share} % here`,
    );
  }

  async #showStorage(): Promise<void> {
    const { usageBytes = 0, quotaBytes, isPersistent } = await storageStatus();
    const quota = quotaBytes === undefined ? "" : ` of ${bytesText(quotaBytes)}`;
    say(
      byId("storage-facts"),
      `${bytesText(usageBytes)}${quota} in use, ${isPersistent ? "kept" : "may be cleared by the browser"}`,
    );
    const total = bytesText(this.#session.disk.length);
    say(byId("map-facts"), `${DISK}: ${total}, qcow2 in OPFS over HTTP`);
    const has = (await this.#session.disk.snapshots()).some(({ name }) => name === SNAPSHOT);
    byId<HTMLButtonElement>("revert").disabled = !has;
  }

  #press(id: string, isPressed: boolean, text: string): void {
    const button = byId(id);
    button.setAttribute("aria-pressed", String(isPressed));
    say(button, text);
  }

  #pill(name: "guest" | "network" | "storage" | "disk", kind: "good" | "warn" | "bad", text: string): void {
    const pill = byId(`pill-${name}`);
    pill.className = `pill ${kind}`;
    say(pill, text);
  }

  #fail(error: unknown): void {
    const words = error instanceof Error ? error.message : String(error);
    this.#log.add(words, "bad");
    showTrouble(words);
  }
}

/** The stream as a Blob, which browsers keep on disk when it is large. The stream's own error is kept. */
async function blobOf(stream: ReadableStream<Uint8Array>): Promise<Blob> {
  const parts: Blob[] = [];
  const reader = stream.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(new Blob([next.value as Uint8Array<ArrayBuffer>]));
  }
  return new Blob(parts);
}

function showTrouble(words: string): void {
  const trouble = byId("trouble");
  trouble.hidden = false;
  trouble.textContent = words;
}

try {
  await new Page(await Session.open()).start();
  document.documentElement.dataset["ready"] = "true";
} catch (error) {
  showTrouble(`The disk could not be opened: ${error instanceof Error ? error.message : String(error)}`);
}
