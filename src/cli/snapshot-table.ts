/**
 * The list of an image's internal snapshots as qemu-img prints it, for `snapshot -l` and `info`. Times are local.
 */
import type { SnapshotInfo } from "../node.ts";
import { formatBytes } from "./units.ts";

/** What a list shows of a snapshot. */
type Listed = Omit<SnapshotInfo, "diskBytes">;

const two = (value: number): string => String(value).padStart(2, "0");

function date(seconds: number): string {
  const at = new Date(seconds * 1000);
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  return `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")}`;
}

function clock(seconds: number, nanoseconds: number): string {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const millis = String(Math.floor(nanoseconds / 1e6)).padStart(3, "0");
  return `${two(hours)}:${two(minutes)}:${two(seconds % 60)}.${millis}`;
}

/** `Snapshot list:`, and the rows. */
export function snapshotTable(list: readonly Listed[]): string {
  return `Snapshot list:\n${snapshotRows(list)}`;
}

/** The names of the columns and a row for each. */
export function snapshotRows(list: readonly Listed[]): string {
  const rows = list.map((snapshot) =>
    row([
      snapshot.id,
      snapshot.name,
      formatBytes(snapshot.vmStateBytes),
      date(snapshot.dateSeconds),
      clock(snapshot.vmClockSeconds, snapshot.vmClockNanoseconds),
      snapshot.icount === undefined ? "" : String(snapshot.icount),
    ]),
  );
  const head = row(["ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT"]);
  return [head, ...rows].map((line) => `${line}\n`).join("");
}

function row([
  id = "",
  tag = "",
  size = "",
  taken = "",
  clocked = "",
  icount = "",
]: readonly string[]): string {
  const first = `${id.padEnd(9)} ${tag.padEnd(16)} ${size.padStart(8)}`;
  return `${first}${taken.padStart(20)}${clocked.padStart(13)}${icount.padStart(11)}`;
}
