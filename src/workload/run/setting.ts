/** How a workload is run: what the caller wishes, then what its file wishes, then the defaults. */
import type { EngineOptions } from "../../api/engine.ts";
import type { Host } from "../../base/host.ts";
import type { DriverType } from "../../block/model/contract.ts";
import type { Gate } from "../../block/model/gate.ts";
import { type DeviceModel, readDevice } from "../device/model.ts";
import { deviceModels, isModelName } from "../device/shipped.ts";
import { type Plan, WorkloadError } from "../model/plan.ts";
import type { Request } from "../stream/requests.ts";
import type { IsMounted } from "./target.ts";

/** What a run needs of its platform. */
export interface WorkloadPlatform {
  readonly host: Host;
  readonly drivers: readonly DriverType[];
  /** The platform's own comparison of bytes; see KernelOptions. */
  readonly equals?: (a: Uint8Array, b: Uint8Array) => boolean;
  readonly isMounted?: IsMounted;
  /** Tells where a run on the real clock happens: called before and after it. */
  readonly environment?: (before?: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>;
}

/** How a workload is run. What is left out is as the workload's file wishes. */
export interface RunOptions {
  readonly platform: WorkloadPlatform;
  readonly clock?: "real" | "virtual";
  /** Name of a shipped model, or a model. On the real clock the run waits as long as the model says. */
  readonly device?: unknown;
  /** A whole number, 0 … 2^53-1; default 1. */
  readonly seed?: number;
  readonly target?: unknown;
  /** Length of a disk that is made for the run, bytes. */
  readonly size?: number;
  readonly direct?: boolean;
  /** Allows a run that writes to lose what the disk holds. */
  readonly overwrite?: boolean;
  /** Makes a file that is not there. */
  readonly makes?: boolean;
  /** Compares what is read, and at the end all that was written, with what it must be. */
  readonly verify?: boolean;
  /** Told of each request when it is sent, ns from the begin on. */
  readonly record?: (request: Request, atNs: number) => void;
  /** False: the final disk is not read. */
  readonly digestDisk?: boolean;
  readonly kernels?: EngineOptions["kernels"];
  /** Asked for the files that images name; default: nothing is allowed. */
  readonly gate?: Gate;
  readonly signal?: AbortSignal;
}

/** What a run goes by. */
export interface Setting {
  readonly plan: Plan;
  readonly options: RunOptions;
  readonly seed: number;
  readonly clock: "real" | "virtual";
  readonly model: DeviceModel | undefined;
}

/** The model that is asked for. */
function modelOf(wish: unknown, clock: "real" | "virtual"): DeviceModel | undefined {
  if (wish === undefined) return clock === "virtual" ? readDevice(deviceModels.ssd) : undefined;
  if (typeof wish === "string") {
    if (isModelName(wish)) return readDevice(deviceModels[wish]);
    const names = Object.keys(deviceModels).join(", ");
    throw new WorkloadError(`no device model is called '${wish}': there are ${names}, and files of your own`);
  }
  if (typeof wish !== "object" || wish === null)
    throw new WorkloadError("the device is neither a name nor a model");
  return readDevice(wish);
}

/** Settles how a plan is run. Throws WorkloadError. */
export function settingOf(plan: Plan, options: RunOptions): Setting {
  const { wishes } = plan;
  const seed = options.seed ?? wishes.seed ?? 1;
  if (!Number.isSafeInteger(seed) || seed < 0) throw new WorkloadError(`the seed ${seed} is out of range`);
  const wish = options.device ?? wishes.device;
  // A model without a clock means the one that it is made for.
  const clock = options.clock ?? wishes.clock ?? (wish === undefined ? "real" : "virtual");
  return { plan, options, seed, clock, model: modelOf(wish, clock) };
}
