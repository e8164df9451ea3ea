/**
 * The guest of a story: requests at random, many at a time but never two to one range, every answer held against the
 * model.
 */
import type { Answer } from "../base/answer.ts";
import type { Machine } from "../machine/machine.ts";
import { Req } from "../block/model/contract.ts";
import type { OnError } from "../job/core/error-policy.ts";
import { GuestDevice } from "../machine/device.ts";
import type { BlockNode } from "../block/model/node.ts";
import type { Dice } from "./dice.ts";
import type { SimHost } from "./host.ts";
import { Durable } from "./durable.ts";
import { type Model, stamp } from "./model.ts";

const SECTOR = 512;

/** How a guest behaves. */
export interface GuestPlan {
  rerror: OnError;
  werror: OnError;
  lanes: number;
  /** Longest pause between two requests of a lane, ms. */
  pauseMs: number;
  /** Largest request, bytes. */
  maxBytes: number;
  /** Some requests are not made of whole sectors. */
  unaligned: boolean;
  /** It sends no more than this many requests; absent: until the calm. */
  most?: number;
  /** The numbers of requests, from 0, that it leaves out. */
  skip?: readonly number[];
  /** Discards may leave anything (version 2 images show their backing file again). */
  vagueDiscard: boolean;
}

type Kind = "read" | "write" | "zeroes" | "discard" | "flush";

const kinds: readonly Kind[] = [
  "read",
  "read",
  "read",
  "write",
  "write",
  "write",
  "write",
  "zeroes",
  "discard",
  "flush",
];

interface Range {
  offset: number;
  bytes: number;
}

/** The guest of one story. */
export class Guest {
  readonly device: GuestDevice;
  readonly model: Model;
  readonly violations: string[] = [];
  /** Told of each range that the guest changed. */
  onChange: ((range: Range) => void) | undefined;
  /** What a power cut must leave. */
  readonly durable: Durable;
  readonly #host: SimHost;
  readonly #dice: Dice;
  readonly #plan: GuestPlan;
  readonly #busy = new Set<Range>();
  readonly #failed = new Set<number>();
  #stopped = false;
  #frozen = false;
  #tag = 1000;
  #lanes: Promise<void>[] = [];
  #flushFailures = 0;
  #drawn = 0;
  requests = 0;
  errors = 0;

  private constructor(init: {
    device: GuestDevice;
    model: Model;
    host: SimHost;
    dice: Dice;
    plan: GuestPlan;
  }) {
    this.device = init.device;
    this.model = init.model;
    this.durable = new Durable(init.model);
    this.#host = init.host;
    this.#dice = init.dice;
    this.#plan = init.plan;
  }

  /** Plugs the disk in. */
  static async plug(init: {
    machine: Machine;
    node: BlockNode;
    model: Model;
    host: SimHost;
    dice: Dice;
    plan: GuestPlan;
  }): Promise<Guest> {
    const { machine, node, plan } = init;
    const { rerror, werror } = plan;
    const device = await GuestDevice.plug({ machine, name: "drive", node, rerror, werror });
    return new Guest({ ...init, device });
  }

  start(): void {
    for (let lane = 0; lane < this.#plan.lanes; lane++) this.#lanes.push(this.#lane());
  }

  /** Issues nothing more, and says nothing more. */
  freeze(): void {
    this.#stopped = true;
    this.#frozen = true;
  }

  /** Issues nothing more; resolves when what is under way has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#lanes);
  }

  async #lane(): Promise<void> {
    while (!this.#stopped) {
      await this.#host.scheduler.sleep(this.#dice.fraction() * this.#plan.pauseMs);
      if (this.#stopped) return;
      const kind = this.#dice.pick(kinds);
      const range = this.#free();
      if (!range) continue;
      const number = this.#drawn++;
      if (number >= (this.#plan.most ?? Infinity)) return;
      if (this.#plan.skip?.includes(number)) continue;
      this.#busy.add(range);
      this.requests += 1;
      try {
        await this.#request(kind, range);
      } finally {
        this.#busy.delete(range);
      }
    }
  }

  /** A range that no request under way touches. */
  #free(): Range | undefined {
    const { length } = this.model;
    const dice = this.#dice;
    for (let tries = 0; tries < 4; tries++) {
      const unit = this.#plan.unaligned && dice.oneIn(6) ? 1 : SECTOR;
      const most = dice.oneIn(8) ? this.#plan.maxBytes * 8 : this.#plan.maxBytes;
      const bytes = Math.min(length, unit * dice.between(1, Math.max(1, Math.floor(most / unit))));
      const offset = Math.floor(dice.between(0, length - bytes) / unit) * unit;
      const clash = [...this.#busy].some(
        (busy) => offset < busy.offset + busy.bytes && busy.offset < offset + bytes,
      );
      if (!clash) return { offset, bytes };
    }
    return undefined;
  }

  async #request(kind: Kind, range: Range): Promise<void> {
    const { offset, bytes } = range;
    const name = `guest ${kind} ${offset}+${bytes}`;
    this.#host.trace.add(name);
    let outcome = "ok";
    try {
      if (kind === "flush") await this.#flush();
      else if (kind === "read") await this.#read(range);
      else await this.#change(kind, range);
    } catch (error) {
      this.errors += 1;
      outcome = error instanceof Error ? error.message : String(error);
    }
    this.#host.trace.add(`${name}: ${outcome}`);
  }

  async #flush(): Promise<void> {
    const mark = this.durable.mark();
    const failures = this.#flushFailures;
    await this.device.flush();
    // A device may hide a failure from its guest (werror=ignore).
    if (failures === this.#flushFailures) this.durable.flushed(mark);
  }

  async #read({ offset, bytes }: Range): Promise<void> {
    const buffer = new Uint8Array(bytes).fill(0xdd);
    const { device } = this;
    const failed = this.#watchFailures(offset);
    await device.read(offset, buffer);
    if (failed()) return;
    const bad = this.model.difference(offset, buffer);
    if (bad >= 0 && !this.#frozen)
      this.violations.push(`guest read ${offset}+${bytes}: wrong byte at ${bad}`);
  }

  async #change(kind: Kind, { offset, bytes }: Range): Promise<void> {
    const failed = this.#watchFailures(offset);
    const { device, model } = this;
    const data = kind === "write" ? stamp(offset, bytes, this.#tag++) : new Uint8Array(bytes);
    const known = kind === "discard" ? undefined : data;
    const change = this.durable.begin({ offset, bytes, data: known });
    try {
      if (kind === "write") {
        await device.write(offset, data);
        model.write(offset, data);
      } else if (kind === "zeroes") {
        await device.writeZeroes(offset, bytes, this.#dice.oneIn(2) ? Req.mayUnmap : 0);
        model.zero(offset, bytes);
      } else {
        await device.discard(offset, bytes);
        model.discard(offset, bytes, this.#plan.vagueDiscard);
      }
      if (failed()) {
        model.forget(offset, bytes);
        change.data = undefined;
      } else this.onChange?.({ offset, bytes });
    } catch (error) {
      model.forget(offset, bytes);
      change.data = undefined;
      throw error;
    } finally {
      change.done = true;
    }
  }

  /** Whether the last attempt of the request at `offset` failed, whatever the device made of it (werror=ignore). */
  #watchFailures(offset: number): () => boolean {
    this.#failed.delete(offset);
    return () => this.#failed.delete(offset);
  }

  /** Notes failures below the device. Called once, after plugging in. */
  spy(): this {
    const { backend } = this.device;
    const note = async (offset: number, attempt: Answer<void>, changed = 0): Promise<void> => {
      this.#failed.delete(offset);
      try {
        await attempt;
      } catch (error) {
        this.#failed.add(offset);
        // Until it is tried again with success, nobody knows what is there.
        this.model.forget(offset, changed);
        throw error;
      }
    };
    const pread = backend.pread.bind(backend);
    const pwrite = backend.pwrite.bind(backend);
    const pwriteZeroes = backend.pwriteZeroes.bind(backend);
    const pdiscard = backend.pdiscard.bind(backend);
    const flush = backend.flush.bind(backend);
    backend.flush = async () => {
      try {
        await flush();
      } catch (error) {
        this.#flushFailures += 1;
        throw error;
      }
    };
    backend.pread = (offset, buffer, flags) => note(offset, pread(offset, buffer, flags));
    backend.pwrite = (offset, buffer, flags) =>
      note(offset, pwrite(offset, buffer, flags), buffer.byteLength);
    backend.pwriteZeroes = (offset, bytes, flags) => note(offset, pwriteZeroes(offset, bytes, flags), bytes);
    backend.pdiscard = (offset, bytes) => note(offset, pdiscard(offset, bytes), bytes);
    return this;
  }
}
