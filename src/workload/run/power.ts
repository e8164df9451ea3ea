/**
 * Power cuts of a run: nothing is answered any more, what was not durable is lost, the disk is opened anew, and the workers go on.
 */
import { deferred } from "../../base/signals.ts";
import type { DeviceBay } from "../device/driver.ts";
import { type DeviceModel, nextPowerCut } from "../device/model.ts";
import type { Pacer } from "../time/pace.ts";
import type { RunContext, Running } from "./worker.ts";

/** A run whose power is cut. */
export interface PoweredRun {
  readonly bay: DeviceBay;
  readonly model: DeviceModel;
  readonly pacer: Pacer;
  readonly context: RunContext;
  readonly workers: readonly Running[];
  /** Opens the disk anew, and compares what is left of it. */
  readonly reopen: () => Promise<void>;
}

/** The power is off from now on; resolves, for all who wait for it, when it is back. */
function darken({ bay, context }: PoweredRun, back: Promise<void>): void {
  context.outage ??= back;
  bay.cutPower();
}

/** Resolves when the power is cut next, by the clock or by a request. */
function nextCut(run: PoweredRun, back: Promise<void>, signal: AbortSignal): Promise<void> {
  const { bay, model, pacer } = run;
  const cut = deferred<void>();
  const off = (): void => {
    darken(run, back);
    cut.resolve();
  };
  bay.onPowerCut = off;
  const atNs = nextPowerCut(model, pacer.nowNs());
  if (atNs !== undefined) pacer.until(atNs, signal).then(off, () => undefined);
  return cut.promise;
}

/** Cuts the power by the model until the run is over; resolves with how often. */
export async function throughPowerCuts(run: PoweredRun, over: Promise<void>): Promise<number> {
  const { bay, context, workers, reopen } = run;
  for (let cuts = 0; ; cuts++) {
    const noMore = new AbortController();
    const back = deferred<void>();
    await Promise.race([over, nextCut(run, back.promise, noMore.signal)]);
    noMore.abort();
    if (!context.outage) return cuts;
    for (const worker of workers) await worker.settled();
    await bay.lose(context.kernels);
    await reopen();
    bay.isLive = true;
    context.outage = undefined;
    back.resolve();
  }
}
