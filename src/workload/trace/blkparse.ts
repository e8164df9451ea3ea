/**
 * The text of blkparse: what was queued. All other events tell of the same requests again. Source: blkparse(1), "Default output"
 * and "RWBS description".
 */
import type { Operation } from "../model/plan.ts";
import type { Recorded } from "./recorded.ts";
import { type RecordingBytes, linesOf } from "./source.ts";

/** `8,0 3 1 0.000000000 697 Q WS 223490 + 8 [program]`; a flush alone has no sectors. */
const QUEUED =
  /^\s*(\d+,\d+)\s+\d+\s+\d+\s+(\d+)\.(\d{9})\s+\d+\s+Q\s+([A-Z]+)(?:\s+(\d+)\s+\+\s+(\d+))?(?:\s|$)/;
const LINE = /^\s*\d+,\d+\s+\d+\s+\d+\s+\d+\.\d{9}\s/;

/** Whether it is a line of such a text. */
export function isBlkparseLine(line: string): boolean {
  return LINE.test(line);
}

const OPERATIONS: Readonly<Record<string, Operation>> = { R: "read", W: "write", D: "discard", E: "discard" };

/** `FWFS`: a flush before, the operation, FUA, and flags that say nothing of it. */
function meaning(flags: string): { flushes: boolean; operation: Operation | undefined; fua: boolean } {
  const flushes = flags.startsWith("F");
  const rest = flushes ? flags.slice(1) : flags;
  return { flushes, operation: OPERATIONS[rest[0] ?? ""], fua: rest.slice(1).includes("F") };
}

/** The requests. */
export function* readBlkparse(source: RecordingBytes): Generator<Recorded> {
  for (const line of linesOf(source)) {
    const match = QUEUED.exec(line);
    if (!match) continue;
    const [, file = "", seconds, nanoseconds, flags = "", sector, sectors = "0"] = match;
    const atNs = Number(seconds) * 1e9 + Number(nanoseconds);
    const { flushes, operation, fua } = meaning(flags);
    if (flushes) yield { file, operation: "flush", offset: 0, bytes: 0, atNs };
    const bytes = Number(sectors) * 512;
    if (operation && bytes > 0)
      yield { file, operation, offset: Number(sector) * 512, bytes, atNs, ...(fua ? { fua } : {}) };
  }
}
