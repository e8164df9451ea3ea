/**
 * Starting jobs: what to do, what to do on an error, and how fast. One job at a time works on the disk, as in QEMU.
 */
import type { Copies } from "./copies.ts";
import { allow, byId, say } from "./dom.ts";
import type { Policy, Session } from "./session.ts";

/** What can be started; also the id of the job. */
export const jobKinds = ["fill", "backup", "mirror", "commit"] as const;
/** See jobKinds. */
export type JobKind = (typeof jobKinds)[number];
const HINTS: Record<JobKind, string> = {
  fill: "Stream: brings what is still on the server into this browser.",
  backup: "Backup: a copy of the disk as it is now, into another image in OPFS, while the guest goes on.",
  mirror: "Mirror: a copy in IndexedDB that follows the guest, until you finish it.",
  commit: "Commit: writes the layer on top down into the disk.",
};

/** The form. */
export class Starter {
  readonly #session: Session;
  readonly #copies: Copies;
  readonly #policies = new Map<string, Policy>();

  constructor(session: Session, copies: Copies) {
    this.#session = session;
    this.#copies = copies;
    byId("job-kind").addEventListener("change", () => this.#explain());
    this.#explain();
  }

  /** Starts what the form says. */
  start(): Promise<void> {
    return this.run(byId<HTMLSelectElement>("job-kind").value as JobKind);
  }

  /** Starts a job under the form's speed, and its policy unless another is given. */
  async run(kind: JobKind, policy = byId<HTMLSelectElement>("policy").value as Policy): Promise<void> {
    const speed = Number(byId<HTMLSelectElement>("speed").value);
    this.#policies.set(kind, policy);
    if (kind === "fill" || kind === "commit") return this.#session[kind](policy, speed);
    await this.#copies.prepare(kind, this.#session.disk.length);
    try {
      await this.#session.copy(kind, policy, speed);
    } catch (error) {
      await this.#copies.finish(kind, false);
      throw error;
    }
  }

  /** What the job of that id does on an error. */
  policyOf(id: string): Policy | undefined {
    return this.#policies.get(id);
  }

  /** Offers what is possible now. */
  offer({ busy, isComplete }: { busy: string | undefined; isComplete: boolean }): void {
    const possible = { fill: !isComplete, backup: true, mirror: true, commit: this.#session.hasLayer };
    const select = byId<HTMLSelectElement>("job-kind");
    for (const option of select.options) option.disabled = !possible[option.value as JobKind];
    if (select.selectedOptions[0]?.disabled) {
      select.value = "backup";
      this.#explain();
    }
    const isBusy = busy && `One job at a time: ${busy} is still there.`;
    allow("job-start", isBusy);
    const hasLayer = "There is a layer on top: a commit job writes it into the disk.";
    allow("layer", isBusy ?? (this.#session.hasLayer ? hasLayer : undefined));
  }

  #explain(): void {
    say(byId("job-hint"), HINTS[byId<HTMLSelectElement>("job-kind").value as JobKind]);
  }
}
