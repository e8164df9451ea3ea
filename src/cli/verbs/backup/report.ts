/**
 * How backups are shown to people and to programs.
 */
import type { Backup } from "../../../store/description.ts";
import type { Verdict } from "../../../store/verify.ts";
import { formatBytes } from "../../units.ts";
import type { Pruned } from "./place.ts";

/** JSON, with names as QEMU spells them: words joined by dashes. */
export function asJson(value: unknown): string {
  return JSON.stringify(dashed(value), null, 2);
}

function dashed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(dashed);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([name]) => name !== "root");
  return Object.fromEntries(
    entries.map(([name, item]) => [
      name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
      dashed(item),
    ]),
  );
}

/** A number of bytes for people. */
export function toldBytes(bytes: number): string {
  return formatBytes(bytes);
}

/** A line for each backup, under a head. */
export function tableOf(backups: readonly Backup[]): string {
  const rows = backups.map(({ id, time, kind, size, storedBytes, name }) => [
    id,
    time.slice(0, 19).replace("T", " "),
    kind,
    toldBytes(size),
    toldBytes(storedBytes),
    name,
  ]);
  const table = [["ID", "TIME (UTC)", "KIND", "SIZE", "ADDED", "NAME"], ...rows];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((word, column) => word.padEnd(widths[column]!))
      .join("  ")
      .trimEnd();
  return `${table.map(line).join("\n")}\n`;
}

/** What a look at the backups has found. */
export function verdictLines({ backups, chunks, bytes, broken, damaged }: Verdict): string[] {
  return [
    ...damaged.map(({ problem }) => problem),
    ...broken.map(({ id, problem }) => `backup ${id} can't be restored whole: ${problem}`),
    `${backups} backups, ${chunks} chunks, ${toldBytes(bytes)}: ${broken.length === 0 && damaged.length === 0 ? "all whole" : `${broken.length} backups broken`}`,
  ];
}

/** What stays and what goes, a line each. */
export function prunedLines(
  { kept, removed, freedBytes, isWaiting }: Pruned,
  { dryRun }: { readonly dryRun?: boolean },
): string[] {
  return [
    ...kept.map(({ backup, why }) => `keep   ${backup.id} ${backup.name} ${why.join(", ")}`.trimEnd()),
    ...removed.map(({ id, name }) => `remove ${id} ${name}`),
    ...(dryRun ? [] : [`${toldBytes(freedBytes)} freed`]),
    ...(isWaiting ? ["others are at work here: the rest is freed by the next prune"] : []),
  ];
}
