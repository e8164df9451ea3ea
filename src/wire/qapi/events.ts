/**
 * The events that a monitor sends, with the members of their `data`.
 * Source: QAPI block-core, job, block-export and run-state schemas, QEMU 7.2.
 */
import type { EventTable } from "./schema.ts";

const jobEnd = { type: "JobType", device: "str", len: "int", offset: "int", speed: "int" } as const;

/** The events. */
export const eventTable = {
  BLOCK_IMAGE_CORRUPTED: {
    device: "str",
    "*node-name": "str",
    msg: "str",
    "*offset": "int",
    "*size": "int",
    fatal: "bool",
  },
  BLOCK_IO_ERROR: {
    device: "str",
    "*node-name": "str",
    operation: "IoOperationType",
    action: "BlockErrorAction",
    "*nospace": "bool",
    reason: "str",
  },
  BLOCK_JOB_COMPLETED: { ...jobEnd, "*error": "str" },
  BLOCK_JOB_CANCELLED: jobEnd,
  BLOCK_JOB_ERROR: { device: "str", operation: "IoOperationType", action: "BlockErrorAction" },
  BLOCK_JOB_READY: jobEnd,
  BLOCK_JOB_PENDING: { type: "JobType", id: "str" },
  BLOCK_WRITE_THRESHOLD: { "node-name": "str", "amount-exceeded": "uint64", "write-threshold": "uint64" },
  QUORUM_FAILURE: { reference: "str", "sector-num": "int", "sectors-count": "int" },
  QUORUM_REPORT_BAD: {
    type: "QuorumOpType",
    "*error": "str",
    "node-name": "str",
    "sector-num": "int",
    "sectors-count": "int",
  },
  JOB_STATUS_CHANGE: { id: "str", status: "JobStatus" },
  BLOCK_EXPORT_DELETED: { id: "str" },
  SHUTDOWN: { guest: "bool", reason: "ShutdownCause" },
  STOP: {},
  RESUME: {},
} as const satisfies EventTable;
