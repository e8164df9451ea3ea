/**
 * The demo page: a guest on a disk that arrives while it runs, the map of the disk, its jobs, and things to break.
 */
import { type AnyClientEvent, persistStorage, storageStatus } from "../browser.ts";
import { Copies, type CopyKind } from "./copies.ts";
import { overlayFormat, plainFormat } from "../drivers/format/defaults.ts";
import { allow, bytesText, byId, h, say } from "./dom.ts";
import { save } from "./download.ts";
import { type Guest, boot } from "./guest.ts";
import { chooseGuest } from "./guest-choice.ts";
import { JobCard, Jobs } from "./jobs.ts";
import { MapModel, states } from "./map-model.ts";
import { MapView } from "./map-view.ts";
import { askCut, setCut, underServiceWorker } from "./network.ts";
import { Resumer, isOver } from "./resumer.ts";
import { DISK, FILL, type Policy, Session } from "./session.ts";
import { Starter } from "./starter.ts";
import { done, showSteps } from "./steps.ts";
import { explain } from "./words.ts";
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
  readonly #copies: Copies;
  readonly #starter: Starter;
  readonly #resumer: Resumer;
  readonly #log = new LogView(byId("log"));
  #guest: Guest | undefined;
  #isCut = false;
  #isFull = false;
  #isOver = false;
  #fillWasRunning = false;
  #isStopped = false;
  #restarts: Promise<void> = Promise.resolve();

  constructor(session: Session) {
    this.#session = session;
    this.#model = new MapModel(session.disk.length, CLUSTER);
    this.#view = new MapView(byId("map"), this.#model);
    const onError = (error: unknown): void => this.#fail(error);
    this.#copies = new Copies(session.engine, byId("copies"), {
      download: (kind) => this.#download(kind),
      onError,
    });
    this.#starter = new Starter(session, this.#copies);
    this.#resumer = new Resumer(session.engine, onError);
    this.#jobs = new Jobs({
      qmp: session.engine.qmp,
      onError,
      policyOf: (id) => this.#starter.policyOf(id),
      restart: (_id, policy) => this.#restartFill(policy),
    });
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
    showSteps();
    this.#showCut(await askCut());
    this.#resumer.set(byId<HTMLInputElement>("auto-resume").checked);
    await this.#refreshMap();
    const kind = await chooseGuest(() => this.#leave());
    const shown = { container: byId("console"), model: this.#model, changed: () => this.#view.wake() };
    this.#guest = await boot(this.#session, kind, shown);
    this.#pill("guest", "good", "Guest: running");
    this.#log.add("The guest boots", "good");
    if (!(await this.#session.isComplete())) await this.#starter.run("fill");
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
    on("reload", () => {
      done("reload");
      location.reload();
    });
    on("guest-continue", () => this.#session.engine.qmp.execute("cont"));
    on("persist", () => this.#persist());
    on("snapshot", () => this.#snapshot());
    on("layer", () => this.#addLayer());
    on("revert", () => this.#revert());
    on("start-over", () => this.#startOver());
    on("export", () => this.#export());
    byId("auto-resume").addEventListener("change", ({ currentTarget }) =>
      this.#resumer.set((currentTarget as HTMLInputElement).checked),
    );
    byId("job-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#starter.start().catch((error: unknown) => this.#fail(error));
    });
    byId("type").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = byId<HTMLInputElement>("type-text");
      void this.#guest?.type(field.value);
      field.value = "";
    });
  }

  /** A job keeps its policy, so another one needs another job; what has arrived stays. One change after the other. */
  #restartFill(policy: Policy): Promise<void> {
    const restart = this.#restarts.then(() => this.#restart(policy));
    this.#restarts = restart.catch(() => undefined);
    return restart;
  }

  async #restart(policy: Policy): Promise<void> {
    const { qmp } = this.#session.engine;
    const over = new Promise<void>((resolve) => {
      const stop = qmp.on("BLOCK_JOB_CANCELLED", () => (stop(), resolve()));
    });
    try {
      await qmp.execute("block-job-cancel", { device: FILL, force: true });
    } catch (error) {
      if (isOver(error)) return; // All is here.
      throw error;
    }
    await over;
    await this.#starter.run("fill", policy);
  }

  async #cut(isCut: boolean): Promise<void> {
    await setCut(isCut);
    this.#showCut(isCut);
    if (!isCut) done("plug");
    this.#log.add(isCut ? "You cut the network" : "You mended the network", isCut ? "bad" : "good");
  }

  #showCut(isCut: boolean): void {
    this.#isCut = isCut;
    this.#press("cut", isCut, isCut ? "Mend the network" : "Cut the network");
    this.#pill("network", isCut ? "bad" : "good", isCut ? "Network: cut" : "Network: up");
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
    allow("revert");
    this.#log.add("The disk is kept as it is now, in a snapshot", "good");
  }

  async #revert(): Promise<void> {
    await this.#endGuest();
    await this.#session.disk.applySnapshot(SNAPSHOT);
    await this.#session.engine.close();
    location.reload();
  }

  async #startOver(): Promise<void> {
    if (!confirm("Forget the disk? What the guest has written, and the copies, are gone for good.")) return;
    await this.#endGuest();
    await this.#copies.forget();
    await this.#session.forget();
    location.reload();
  }

  /** Closes everything, so that the next page finds it closed. */
  async #leave(): Promise<void> {
    await this.#endGuest();
    await this.#session.engine.close();
  }

  async #addLayer(): Promise<void> {
    await this.#session.addLayer();
    this.#log.add("A layer is on top: what the guest writes goes there, until you commit it", "good");
    await this.#refreshMap();
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
    const format = choice === plainFormat ? plainFormat : overlayFormat;
    const abort = new AbortController();
    const card = new JobCard(`export: ${choice.replace("-", ", ")}`, { onCancel: () => abort.abort() });
    const remove = this.#jobs.add(card);
    try {
      const stream = await this.#session.disk.imageStream({
        format,
        compress: choice === "qcow2-compressed",
        signal: abort.signal,
        onProgress: (offset, total) => card.show({ offset, total, words: "exporting" }),
      });
      const bytes = await save(stream, `disk.${format}`);
      done("download");
      this.#log.add(`The disk is exported: ${bytesText(bytes)}`, "good");
    } catch (error) {
      if (!abort.signal.aborted) throw error;
      this.#log.add("The export was cancelled");
    } finally {
      remove();
    }
  }

  async #download(kind: CopyKind): Promise<void> {
    const bytes = await save(await this.#copies.read(kind), `${kind}.qcow2`);
    this.#log.add(`The ${kind} is downloaded: ${bytesText(bytes)}`, "good");
  }

  /** A job is over. */
  async #finished({ event, data }: AnyClientEvent): Promise<void> {
    if (event !== "BLOCK_JOB_COMPLETED" && event !== "BLOCK_JOB_CANCELLED") return;
    const isWhole = event === "BLOCK_JOB_COMPLETED" && data.error === undefined;
    await this.#copies.finish(data.device, isWhole);
    if (data.device !== "commit") return;
    if (!isWhole) return this.#session.keepLayer();
    await this.#session.dropLayer();
    this.#log.add("The layer is part of the disk now", "good");
    await this.#refreshMap();
  }

  #hear(heard: AnyClientEvent): void {
    const { event, data } = heard;
    if (!this.#isOver) void this.#finished(heard).catch((error: unknown) => this.#fail(error));
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
      this.#isStopped = isStopped;
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
    } else this.#model.job(0, 0, "rests");
    this.#fillWasRunning = fill !== undefined;
    this.#resumer.follow(jobs.map(({ device }) => device));
    const isAllHere = this.#model.missing === 0;
    const [job] = jobs.map(({ device, "io-status": ioStatus }) => ({ kind: device, ioStatus }));
    this.#starter.offer({ busy: job?.kind, isComplete: isAllHere });
    const { isOn: isAutomatic } = this.#resumer;
    const now = { isStopped: this.#isStopped, wants: this.#guest?.wants, job, isAutomatic, isAllHere };
    say(byId("story"), explain(now));
    this.#view.wake();
    for (const [at, item] of [...byId("legend").children].entries())
      say(item.lastElementChild!, String(this.#model.counts[at]));
    if (round % 8 === 0) await this.#showStorage();
  }

  async #refreshMap(): Promise<void> {
    if (this.#session.isCommitting) return;
    for await (const range of this.#session.disk.map()) {
      const what = this.#session.isAbsent(range) ? "absent" : range.zero ? "zero" : "local";
      this.#model.store(range.offset, range.bytes, what);
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
    const layer = this.#session.hasLayer ? "a layer over " : "";
    const over = this.#model.missing === 0 ? "" : " over HTTP";
    say(byId("map-facts"), `${DISK}: ${total}, ${layer}qcow2 in OPFS${over}`);
    const has = (await this.#session.disk.snapshots()).some(({ name }) => name === SNAPSHOT);
    allow("revert", has ? undefined : "There is no snapshot to go back to yet.");
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

function showTrouble(words: string): void {
  const trouble = byId("trouble");
  trouble.hidden = false;
  trouble.textContent = words;
}

try {
  await underServiceWorker();
  await new Page(await Session.open()).start();
  document.documentElement.dataset["ready"] = "true";
} catch (error) {
  showTrouble(`The disk could not be opened: ${error instanceof Error ? error.message : String(error)}`);
}
