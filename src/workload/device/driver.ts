/**
 * Protocol drivers of which every request takes as long as a declared device says, and fails as it says: what an engine gets
 * instead of its own ones. The data are moved at once, when the request comes; the answer waits. Where a model's power is cut, what
 * was not durable is lost, and nothing is answered until it is back.
 *
 * Invariants: one device for each node; a request that the device fails never reaches the driver; what is no request (status,
 * length, locks) takes no time.
 */
import { type Answer, guarded, isPromise } from "../../base/answer.ts";
import { BlockError } from "../../base/errors.ts";
import {
  type BlockDriver,
  type DriverType,
  type NodeSpec,
  type OpenContext,
} from "../../block/model/contract.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import { Draws, streamKey } from "../random/noise.ts";
import type { Pacer } from "../time/pace.ts";
import { type DeviceCounts, type DeviceRequest, type Ending, ModelDevice } from "./device.ts";
import { type DeviceModel, losesPower } from "./model.ts";
import { Volatile } from "./power.ts";

/** How devices are made. */
export interface DeviceOptions {
  readonly model: DeviceModel;
  readonly seed: number;
  readonly pacer: Pacer;
}

/** All devices of one run. */
export class DeviceBay {
  readonly #options: DeviceOptions;
  readonly #devices: ModelDevice[] = [];
  readonly #byDriver = new WeakMap<BlockDriver, ModelDevice>();
  readonly #volatile: Volatile[] = [];
  /** Devices that have a driver since the power is there. */
  #attached = 0;
  #cuts = 0;
  #isDark = false;
  /** Until it is set no request takes any time, and none is counted: an image is opened and filled beforehand. */
  isLive = false;
  /** Called when a request has cut the power. */
  onPowerCut: (() => void) | undefined;

  constructor(options: DeviceOptions) {
    this.#options = options;
  }

  /** Protocol drivers as devices; others as they are. */
  wrap(type: DriverType): DriverType {
    if (type.kind !== "protocol") return type;
    const open = async (context: OpenContext, spec: NodeSpec): Promise<BlockDriver> => {
      const driver = await type.open(context, spec);
      const device = (): ModelDevice => this.#deviceOf(driver, context.kernels);
      const lost = losesPower(this.#options.model) ? new Volatile(driver) : undefined;
      if (lost) this.#volatile.push(lost);
      return timed(driver, { take: (request) => this.#take(device, request), lost });
    };
    return { ...type, open };
  }

  /** Cuts the power: nothing is answered but by a failure. */
  cutPower(): void {
    this.#isDark = true;
  }

  /** What was not durable is lost, or is there. For when nothing is under way any more. */
  async lose(kernels: Kernels): Promise<void> {
    const draws = new Draws(kernels, streamKey(this.#options.seed, this.#cuts++, "power"));
    for (const lost of this.#volatile) await lost.cut(draws);
    this.#volatile.length = 0;
  }

  /** The power is back, for drivers that are opened from now on. */
  restorePower(): void {
    this.#isDark = false;
    this.isLive = false;
    this.#attached = 0;
  }

  /** What came to all of them. */
  get counts(): DeviceCounts[] {
    return this.#devices.map((device) => device.counts);
  }

  #deviceOf(driver: BlockDriver, kernels: Kernels): ModelDevice {
    const known = this.#byDriver.get(driver);
    if (known) return known;
    const { model, seed } = this.#options;
    const index = this.#attached++;
    const draws = new Draws(kernels, streamKey(seed, index, "device"));
    const device = (this.#devices[index] ??= new ModelDevice(model, { length: driver.length(), draws }));
    this.#byDriver.set(driver, device);
    return device;
  }

  /** Tells when a request ends; undefined: at once. */
  #take(device: () => ModelDevice, request: DeviceRequest): Judged | undefined {
    if (this.#isDark) throw powerLoss(request);
    if (!this.isLive) return undefined;
    const { pacer } = this.#options;
    const ending = device().take(request, pacer.nowNs());
    if (ending.cutsPower) {
      this.cutPower();
      this.onPowerCut?.();
    }
    return { ...ending, pacer, isDark: () => this.#isDark };
  }
}

/** The failure of a request to a device without power. */
function powerLoss({ operation, offset, bytes }: DeviceRequest): BlockError {
  return new BlockError({ code: "EIO", op: operation, offset, bytes, message: "The power is cut" });
}

interface Judged extends Ending {
  readonly pacer: Pacer;
  /** Whether the power is cut by now. */
  readonly isDark: () => boolean;
}

/** What becomes of requests. */
interface Fate {
  readonly take: (request: DeviceRequest) => Judged | undefined;
  /** Absent: the device keeps what it has taken. */
  readonly lost: Volatile | undefined;
}

/** The driver with those of its requests that take time replaced. */
function timed(driver: BlockDriver, fate: Fate): BlockDriver {
  const replaced = new Map<PropertyKey, unknown>(Object.entries(requestsOf(driver, fate)));
  const get = (_target: BlockDriver, name: PropertyKey): unknown => {
    if (replaced.has(name)) return replaced.get(name);
    const member: unknown = Reflect.get(driver, name, driver);
    if (typeof member !== "function") return member;
    const call = (...args: unknown[]): unknown => Reflect.apply(member, driver, args);
    replaced.set(name, call);
    return call;
  };
  return new Proxy(driver, { get });
}

/** The data are moved at once; they are there, or the request has failed, when the device says so. */
async function carryOut(
  { take, lost }: Fate,
  request: DeviceRequest,
  work: () => Answer<void>,
): Promise<void> {
  const judged = take(request);
  if (!judged) return work();
  const { atNs, errno, pacer, isDark } = judged;
  if (errno !== undefined) {
    await pacer.until(atNs);
    const { operation, offset, bytes } = request;
    throw new BlockError({ code: errno, op: operation, offset, bytes });
  }
  // What the driver itself fails is told at the request's end, too.
  const { begun, ended } = begin(lost, request, work);
  if (isPromise(begun)) begun.catch(() => undefined);
  await pacer.until(atNs);
  if (isDark()) throw powerLoss(request);
  await begun;
  ended();
}

/** Begins a request; `ended` is called when it was answered. */
function begin(
  lost: Volatile | undefined,
  { operation, offset, bytes }: DeviceRequest,
  work: () => Answer<void>,
): { begun: Answer<void>; ended: () => void } {
  if (!lost || operation === "read") return { begun: guarded(work), ended: () => undefined };
  if (operation === "flush") {
    const covered = lost.mark();
    return { begun: guarded(work), ended: () => lost.flushed(covered) };
  }
  const { change, done } = lost.change(offset, bytes, work);
  return { begun: done, ended: () => void (change.ended = true) };
}

function requestsOf(driver: BlockDriver, fate: Fate): Partial<BlockDriver> {
  const has = (name: "pwrite" | "pwriteZeroes" | "pdiscard" | "flush"): boolean => driver[name] !== undefined;
  return {
    pread: (offset, buffer, flags) =>
      carryOut(fate, { operation: "read", offset, bytes: buffer.byteLength }, () =>
        driver.pread(offset, buffer, flags),
      ),
    ...(has("pwrite") && {
      pwrite: (offset, buffer, flags) =>
        carryOut(fate, { operation: "write", offset, bytes: buffer.byteLength }, () =>
          driver.pwrite!(offset, buffer, flags),
        ),
    }),
    ...(has("pwriteZeroes") && {
      pwriteZeroes: (offset, bytes, flags) =>
        carryOut(fate, { operation: "zero", offset, bytes }, () =>
          driver.pwriteZeroes!(offset, bytes, flags),
        ),
    }),
    ...(has("pdiscard") && {
      pdiscard: (offset, bytes) =>
        carryOut(fate, { operation: "discard", offset, bytes }, () => driver.pdiscard!(offset, bytes)),
    }),
    ...(has("flush") && {
      flush: () => carryOut(fate, { operation: "flush", offset: 0, bytes: 0 }, () => driver.flush!()),
    }),
  };
}
