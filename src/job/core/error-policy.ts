/**
 * The error policy of jobs: the one place that decides what an I/O error does, and the guard of 2012 that refuses
 * policies whose stop the guest's device would not follow. Source: QEMU's block_job_error_action and the commit
 * "block: introduce block job error".
 */
import { CommandError } from "../../base/errors.ts";
import type { Errno } from "../../base/errno.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";

/** QAPI's BlockdevOnError. */
export type OnError = TypeOf<"BlockdevOnError">;

/** QAPI's BlockErrorAction: what was decided. */
export type BlockErrorAction = TypeOf<"BlockErrorAction">;

/** QAPI's BlockDeviceIoStatus. */
export type IoStatus = TypeOf<"BlockDeviceIoStatus">;

/** What a policy does about an error: enospc and auto stop for ENOSPC and report the rest. */
export function decideErrorAction(policy: OnError, code: Errno): BlockErrorAction {
  if (policy === "enospc" || policy === "auto") return code === "ENOSPC" ? "stop" : "report";
  return policy;
}

/** The io-status that a stop for this error sets. */
export function ioStatusFor(code: Errno): IoStatus {
  return code === "ENOSPC" ? "nospace" : "failed";
}

/** The device over a job's source, as far as the guard looks at it. */
export interface DevicePolicy {
  /** The guest device keeps an io-status. */
  readonly iostatusEnabled: boolean;
  readonly rerror: OnError;
  readonly werror: OnError;
}

/** What checkErrorPolicy looks at. */
export interface ErrorPolicyCheck {
  /** The engine's strictErrorPolicy; off, everything is accepted, as in QEMU 7.2. */
  strict: boolean;
  jobType: string;
  policy: OnError;
  /** The argument's name on the wire. */
  argument: "on-error" | "on-source-error";
  device: DevicePolicy | undefined;
}

/** Whether a device stops the guest for the errors for which a job with stop or enospc would pause. */
export function deviceStopsOnErrors(device: DevicePolicy | undefined): boolean {
  if (!device?.iostatusEnabled) return false;
  return device.rerror === "stop" && (device.werror === "stop" || device.werror === "enospc");
}

/**
 * Under strictErrorPolicy, refuses stop and enospc unless the device has rerror=stop and werror=stop or enospc.
 * Throws CommandError in QEMU's words of 2012.
 */
export function checkErrorPolicy(check: ErrorPolicyCheck): void {
  if (!check.strict || (check.policy !== "stop" && check.policy !== "enospc")) return;
  if (deviceStopsOnErrors(check.device)) return;
  if (check.jobType === "commit") throw new CommandError("Invalid parameter combination");
  throw new CommandError(`Invalid parameter '${check.argument}'`);
}
