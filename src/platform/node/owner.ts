/**
 * Who is at a target or a draft, and whether he still can be: a process by its number and its start, on a machine by its boot and its space of
 * process numbers. Of a process elsewhere nothing can be told but whether the file that it touches goes on changing.
 */
import { readFileSync, readlinkSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { isMainThread, threadId } from "node:worker_threads";

/** A process and the machine it is on. */
export interface Owner {
  /** Machine, boot and space of process numbers; empty where the system tells none. */
  readonly machine: string;
  readonly pid: number;
  /** When the process began, in the system's own measure. */
  readonly start: string;
  /** The attempt within the process. */
  readonly turn: string;
}

/** stopped: it does not run, and may later on. unknown: it is elsewhere. */
export type Liveness = "alive" | "dead" | "stopped" | "unknown";

function readOr(path: string, other: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return other;
  }
}

/** The machine that this process is on; empty where there is no /proc. */
export function thisMachine(): string {
  const boot = readOr("/proc/sys/kernel/random/boot_id", "");
  if (boot === "") return "";
  try {
    return `${hostname()} ${boot} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return "";
  }
}

/** State and start of a process, out of what stands behind its name; undefined: there is none. */
export function processOf(pid: number): { state: string; start: string } | undefined {
  const text = readOr(`/proc/${pid}/stat`, "");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state = ""] = fields;
  return state === "" ? undefined : { state, start: fields[19] ?? "" };
}

let turns = 0;

/** This process, for one more attempt. */
export function thisOwner(): Owner {
  const { pid } = process;
  turns += 1;
  const thread = isMainThread ? "main" : `thread ${threadId}`;
  return { machine: thisMachine(), pid, start: processOf(pid)?.start ?? "", turn: `${thread} ${turns}` };
}

/** Whether an owner is at work. */
export function livenessOf(owner: Owner): Liveness {
  if (owner.machine === "" || owner.machine !== thisMachine()) return "unknown";
  const now = processOf(owner.pid);
  if (!now || now.start !== owner.start || now.state === "Z" || now.state === "X") return "dead";
  return now.state === "T" || now.state === "t" ? "stopped" : "alive";
}

/** When a file was touched last, ms by the clock of whoever keeps it; undefined: it is gone. */
export function touchedAt(path: string): number | undefined {
  try {
    return statSync(path).mtimeMs;
  } catch {
    return undefined;
  }
}
