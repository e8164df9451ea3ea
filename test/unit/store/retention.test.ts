// Which backups stay: by count, by hour, day, week, month and year, each disk by itself.
import { expect, test } from "vitest";
import type { Backup } from "../../../src/store/description.ts";
import { type Keep, kept } from "../../../src/store/retention.ts";

function backupAt(time: string, name = "disk"): Backup {
  return {
    id: `${name}-${time}`,
    time: `${time}:00.000Z`,
    name,
    size: 0,
    image: name,
    kind: "full",
    readBytes: 0,
    newBytes: 0,
    storedBytes: 0,
    root: null,
  };
}

// 2026-11-29 is a Sunday, the last day of ISO week 48.
const times = [
  "2024-12-31T23:00",
  "2025-12-31T23:00",
  "2026-10-31T12:00",
  "2026-11-22T12:00",
  "2026-11-23T12:00",
  "2026-11-28T01:00",
  "2026-11-28T23:00",
  "2026-11-29T10:10",
  "2026-11-29T10:50",
  "2026-11-29T11:00",
];

function stays(keep: Keep): string[] {
  return [
    ...kept(
      times.map((time) => backupAt(time)),
      keep,
    ).keys(),
  ]
    .map(({ time }) => time.slice(0, 16))
    .toSorted();
}

test.each<[string, Keep, string[]]>([
  ["nothing is kept for no reason", {}, []],
  ["the newest", { last: 2 }, ["2026-11-29T10:50", "2026-11-29T11:00"]],
  ["more than there are", { last: 99 }, times],
  ["hours", { hourly: 3 }, ["2026-11-28T23:00", "2026-11-29T10:50", "2026-11-29T11:00"]],
  ["days", { daily: 3 }, ["2026-11-23T12:00", "2026-11-28T23:00", "2026-11-29T11:00"]],
  ["weeks begin on Monday", { weekly: 2 }, ["2026-11-22T12:00", "2026-11-29T11:00"]],
  ["months", { monthly: 3 }, ["2025-12-31T23:00", "2026-10-31T12:00", "2026-11-29T11:00"]],
  ["years", { yearly: 3 }, ["2024-12-31T23:00", "2025-12-31T23:00", "2026-11-29T11:00"]],
  ["one may stay for two reasons", { last: 1, yearly: 2 }, ["2025-12-31T23:00", "2026-11-29T11:00"]],
])("%s", (_what, keep, expected) => {
  expect(stays(keep)).toEqual(expected);
});

test("each disk counts by itself, and the reasons are told", () => {
  const [a, b] = [backupAt("2026-11-01T00:00", "a"), backupAt("2026-11-02T00:00", "b")];
  expect(kept([a, b], { last: 1, daily: 7 })).toEqual(
    new Map([
      [a, ["last", "daily"]],
      [b, ["last", "daily"]],
    ]),
  );
});
