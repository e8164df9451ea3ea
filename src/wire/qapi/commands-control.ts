/**
 * The commands on jobs, transactions, objects, the run state and the monitor itself. `stop`, `cont` and `query-status`
 * are the system emulator's; the rest is qemu-storage-daemon's, in its order.
 * Source: QAPI job, transaction, qom, run-state, control and introspection schemas, QEMU 7.2.
 */
import { command } from "./schema.ts";

/** The commands on jobs, transactions, objects, the run state and the monitor. */
export const controlCommands = {
  "job-pause": command({ data: { id: "str" } }),
  "job-resume": command({ data: { id: "str" } }),
  "job-cancel": command({ data: { id: "str" } }),
  "job-complete": command({ data: { id: "str" } }),
  "job-dismiss": command({ data: { id: "str" } }),
  "job-finalize": command({ data: { id: "str" } }),
  "query-jobs": command({ returns: ["JobInfo"] }),
  stop: command(),
  cont: command(),
  "query-status": command({ returns: "StatusInfo" }),
  qmp_capabilities: command({ data: { "*enable": ["QMPCapability"] } }),
  "query-version": command({ returns: "VersionInfo" }),
  "query-commands": command({ returns: ["CommandInfo"] }),
  quit: command(),
  "query-qmp-schema": command({ returns: ["SchemaInfo"] }),
  "qom-list": command({ data: { path: "str" }, returns: ["ObjectPropertyInfo"] }),
  "object-add": command({ data: "ObjectOptions" }),
  "object-del": command({ data: { id: "str" } }),
  transaction: command({
    data: { actions: ["TransactionAction"], "*properties": "TransactionProperties" },
  }),
} as const;
