/**
 * What happens with a guest's disk, in plain sentences for the page that shows it: what is going on, why the guest or the
 * filling waits, and what will happen next.
 */
import type { Errno } from "../../base/errno.ts";
import { KiB, MiB } from "../../base/limits.ts";
import type { GuestFailure } from "../../machine/machine.ts";
import type { GuestStore } from "./options.ts";

/** What failed, and why: of the guest or of the filling. */
export type GuestDiskCause = Omit<GuestFailure, "offset" | "bytes"> & {
  offset?: number | undefined;
  bytes?: number | undefined;
};

/** How a disk of openGuestDisk() stands. */
export interface GuestDiskStatus {
  /** All of it in plain sentences. */
  text: string;
  /** `waiting`: an error stopped it. `paused`: somebody did. `lost`: the disk's worker has gone. */
  guest: "running" | "waiting" | "paused" | "lost";
  fill: "off" | "running" | "waiting" | "paused" | "done" | "failed";
  /** Bytes that are here, as far as the filling has looked, and bytes of the disk. */
  hereBytes: number;
  length: number;
  /** Where it is kept; `fallback` says why it is not OPFS. */
  store: GuestStore;
  fallback: string | undefined;
  /** Nothing of an earlier visit was there. */
  isNew: boolean;
  /** Why the guest or the filling waits. */
  cause: GuestDiskCause | undefined;
}

/** What the sentences are made of. */
export interface StatusFacts extends Omit<GuestDiskStatus, "text" | "cause"> {
  guestCause: GuestDiskCause | undefined;
  fillCause: GuestDiskCause | undefined;
  probeMs: number;
}

function size(bytes: number): string {
  const [unit, name] = bytes >= 1024 * MiB ? [1024 * MiB, "GiB"] : bytes >= MiB ? [MiB, "MiB"] : [KiB, "KiB"];
  return `${Number((bytes / unit).toFixed(1))} ${name}`;
}

const REASONS: Partial<Record<Errno, string>> = {
  ENOSPC: "the browser's storage for this site is full",
  ESTALE: "the image on the server has changed since the disk was made",
  ETIMEDOUT: "there was no answer in time",
  ENOENT: "the server does not have the image any more",
  EACCES: "the server refuses it",
};

function because({ code, operation, message }: GuestDiskCause): string {
  const plain = REASONS[code] ?? (operation === "read" ? "the server can't be reached" : "the storage fails");
  return `${plain} (${message})`;
}

/** What a reader of the page may expect. */
function next(cause: GuestDiskCause | undefined, who: string, { probeMs }: StatusFacts): string {
  if (cause?.code === "ESTALE")
    return `${who} can't go on with this version: open the disk again, and choose what to keep.`;
  if (cause?.code === "ETIMEDOUT") return `${who} goes on by itself when the answer comes.`;
  if (cause?.code === "ENOSPC") return `${who} goes on by itself when there is room again.`;
  return `It is tried again every ${Number((probeMs / 1000).toFixed(1))} s, and ${who.toLowerCase()} goes on by itself.`;
}

function guestWords(facts: StatusFacts): string[] {
  const { guest, guestCause: cause } = facts;
  if (guest === "paused") return ["The guest is paused."];
  if (guest === "lost")
    return ["The disk's worker has gone: reload the page. What was told as written is there."];
  if (guest === "running") return [];
  if (!cause) return ["The guest waits for its disk.", next(cause, "The guest", facts)];
  const wants =
    cause.operation === "write"
      ? "it writes to its disk"
      : `it wants ${size(cause.bytes ?? 0)} at ${size(cause.offset ?? 0)} of its disk, which are not here yet`;
  return [`The guest waits: ${wants}, and ${because(cause)}.`, next(cause, "The guest", facts)];
}

function fillWords(facts: StatusFacts): string[] {
  const { fill, fillCause: cause, hereBytes, length } = facts;
  const part = length === 0 ? 100 : Math.floor((100 * hereBytes) / length);
  const here = `${part} % of ${size(length)}`;
  switch (fill) {
    case "off":
      return [];
    case "done":
      return ["All of the disk is here: it works without the network."];
    case "running":
      return [`${here} is here, and the rest comes in the background.`];
    case "paused":
      return [`${here} is here; the filling is paused.`];
    case "failed":
      return [
        `${here} is here; the filling has ended${cause ? `: ${because(cause)}` : ""}. A reload begins it again.`,
      ];
    case "waiting":
      return cause
        ? [`${here} is here; the filling waits: ${because(cause)}.`, next(cause, "The filling", facts)]
        : [`${here} is here; the filling waits, to leave room for what the guest writes.`];
  }
}

function storeWords({ store, fallback }: StatusFacts): string[] {
  if (store === "opfs") return [];
  const why = fallback === undefined ? "" : ` (no private file system: ${fallback})`;
  return [`What is written is kept in this browser's database${why}.`];
}

/** The status with its sentences. */
export function statusOf(facts: StatusFacts): GuestDiskStatus {
  const { guestCause, fillCause, probeMs: _, ...rest } = facts;
  const text = [...guestWords(facts), ...fillWords(facts), ...storeWords(facts)].join(" ");
  return { ...rest, cause: guestCause ?? fillCause, text };
}

/** The status of a disk whose worker has gone. */
export function lostStatus(last: GuestDiskStatus | undefined): GuestDiskStatus {
  const { text: _, cause: __, ...rest } = last ?? NOTHING;
  const causes = { guestCause: undefined, fillCause: undefined, probeMs: 0 };
  return statusOf({ ...rest, ...causes, guest: "lost", fill: "off" });
}

const NOTHING: GuestDiskStatus = {
  text: "",
  guest: "lost",
  fill: "off",
  hereBytes: 0,
  length: 0,
  store: "opfs",
  fallback: undefined,
  isNew: false,
  cause: undefined,
};
