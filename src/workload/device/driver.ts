/**
 * Protocol drivers of which every request takes as long as a declared device says, and fails as it says: what an engine gets
 * instead of its own ones. The data are moved at once, when the request comes; the answer waits.
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
import type { DeviceModel } from "./model.ts";

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
  /** Until it is set no request takes any time, and none is counted: an image is opened and filled beforehand. */
  isLive = false;

  constructor(options: DeviceOptions) {
    this.#options = options;
  }

  /** Protocol drivers as devices; others as they are. */
  wrap(type: DriverType): DriverType {
    if (type.kind !== "protocol") return type;
    const open = async (context: OpenContext, spec: NodeSpec): Promise<BlockDriver> => {
      const driver = await type.open(context, spec);
      const device = (): ModelDevice => this.#deviceOf(driver, context.kernels);
      return timed(driver, (request) => this.#take(device, request));
    };
    return { ...type, open };
  }

  /** What came to all of them. */
  get counts(): DeviceCounts[] {
    return this.#devices.map((device) => device.counts);
  }

  #deviceOf(driver: BlockDriver, kernels: Kernels): ModelDevice {
    const known = this.#byDriver.get(driver);
    if (known) return known;
    const { model, seed } = this.#options;
    const draws = new Draws(kernels, streamKey(seed, this.#devices.length, "device"));
    const device = new ModelDevice(model, { length: driver.length(), draws });
    this.#byDriver.set(driver, device);
    this.#devices.push(device);
    return device;
  }

  /** Tells when a request ends; undefined: at once. */
  #take(device: () => ModelDevice, request: DeviceRequest): Judged | undefined {
    if (!this.isLive) return undefined;
    const { pacer } = this.#options;
    return { ...device().take(request, pacer.nowNs()), pacer };
  }
}

interface Judged extends Ending {
  readonly pacer: Pacer;
}

type Take = (request: DeviceRequest) => Judged | undefined;

/** The driver with those of its requests that take time replaced. */
function timed(driver: BlockDriver, take: Take): BlockDriver {
  const replaced = new Map<PropertyKey, unknown>(Object.entries(requestsOf(driver, take)));
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
async function carryOut(take: Take, request: DeviceRequest, work: () => Answer<void>): Promise<void> {
  const judged = take(request);
  if (!judged) return work();
  const { atNs, errno, pacer } = judged;
  if (errno !== undefined) {
    await pacer.until(atNs);
    const { operation, offset, bytes } = request;
    throw new BlockError({ code: errno, op: operation, offset, bytes });
  }
  // What the driver itself fails is told at the request's end, too.
  const begun = guarded(work);
  if (isPromise(begun)) begun.catch(() => undefined);
  await pacer.until(atNs);
  await begun;
}

function requestsOf(driver: BlockDriver, take: Take): Partial<BlockDriver> {
  const has = (name: "pwrite" | "pwriteZeroes" | "pdiscard" | "flush"): boolean => driver[name] !== undefined;
  return {
    pread: (offset, buffer, flags) =>
      carryOut(take, { operation: "read", offset, bytes: buffer.byteLength }, () =>
        driver.pread(offset, buffer, flags),
      ),
    ...(has("pwrite") && {
      pwrite: (offset, buffer, flags) =>
        carryOut(take, { operation: "write", offset, bytes: buffer.byteLength }, () =>
          driver.pwrite!(offset, buffer, flags),
        ),
    }),
    ...(has("pwriteZeroes") && {
      pwriteZeroes: (offset, bytes, flags) =>
        carryOut(take, { operation: "zero", offset, bytes }, () =>
          driver.pwriteZeroes!(offset, bytes, flags),
        ),
    }),
    ...(has("pdiscard") && {
      pdiscard: (offset, bytes) =>
        carryOut(take, { operation: "discard", offset, bytes }, () => driver.pdiscard!(offset, bytes)),
    }),
    ...(has("flush") && {
      flush: () => carryOut(take, { operation: "flush", offset: 0, bytes: 0 }, () => driver.flush!()),
    }),
  };
}
