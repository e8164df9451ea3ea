/**
 * The Host of the simulator: virtual time, files in memory, seeded randomness. One scheduler orders everything.
 */
import { BlockError } from "../base/errors.ts";
import type { Clock, Host, Random } from "../base/host.ts";
import { Dice } from "./dice.ts";
import { SimFiles } from "./files.ts";
import { Scheduler } from "../workload/time/scheduler.ts";
import { Trace } from "./trace.ts";

/** A host whose every wait and number follows from its seed. */
export class SimHost implements Host {
  readonly scheduler = new Scheduler();
  readonly trace: Trace;
  readonly files: SimFiles;
  readonly clock: Clock;
  readonly random: Random;
  readonly codecs = {
    inflateRaw: () => Promise.reject(new BlockError({ code: "ENOTSUP", op: "inflate" })),
    deflateRaw: () => Promise.resolve(undefined),
  };

  constructor(seed: number, options: { keepIo?: boolean } = {}) {
    const dice = new Dice(seed);
    const { scheduler } = this;
    this.trace = new Trace(scheduler, { keepIo: options.keepIo ?? false });
    this.files = new SimFiles({ scheduler, dice: dice.fork(), trace: this.trace });
    const turns = dice.fork();
    const names = dice.fork();
    this.random = { below: (limit) => names.below(limit) };
    this.clock = {
      nowMs: () => scheduler.nowMs,
      wallMicroseconds: () => Math.floor(scheduler.nowMs * 1000),
      timer: (delayMs, callback) => scheduler.after(delayMs, callback),
      turn: () => scheduler.sleep(turns.fraction() * 0.02),
    };
  }
}
