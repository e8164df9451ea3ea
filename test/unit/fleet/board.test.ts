// What is shown of a fleet: the queue is asked once for all who look, and less often the longer it takes.
import { expect, it } from "vitest";
import { FleetBoard, MOST_SHOWN } from "../../../src/fleet/board.ts";
import type { FleetCounts, JobRow } from "../../../src/fleet/queue.ts";

const counts: FleetCounts = { queued: 300, running: 1, done: 1, failed: 1 };

function row(id: string, state: JobRow["state"], bytes = 0): JobRow {
  return { id, state, attempts: 1, worker: "w", bytes, lastError: state === "failed" ? "why" : "" };
}

const rows = [
  ...Array.from({ length: 300 }, (_none, at) => row(`q${at}`, "queued")),
  row("r", "running", 5),
  row("d", "done", 7),
  row("f", "failed", 2),
];

it("tells counts, the first jobs of each state but those that are done, and all bytes", async () => {
  const queue = { counts: () => Promise.resolve(counts), rows: () => Promise.resolve(rows) };
  const board = new FleetBoard(queue, () => 5);
  const { running, failed, queued, ...rest } = await board.sight();
  expect(rest).toEqual({ atMs: 5, counts, movedBytes: 14 });
  expect([running, failed]).toEqual([[row("r", "running", 5)], [row("f", "failed", 2)]]);
  expect(queued).toEqual(rows.slice(0, MOST_SHOWN));
  expect(await board.all()).toEqual({ counts, rows });
});

it("asks once for all who look, and again after ten times as long as that took", async () => {
  let now = 0;
  let asked = 0;
  const board = new FleetBoard(
    {
      counts: () => Promise.resolve(counts),
      rows: () => {
        asked += 1;
        now += 300;
        return Promise.resolve(rows);
      },
    },
    () => now,
  );
  await Promise.all([board.sight(), board.sight(), board.all()]);
  expect(asked).toBe(1);
  now += 2999;
  await board.sight();
  expect(asked).toBe(1);
  now += 1;
  expect((await board.sight()).atMs).toBe(3300);
  expect(asked).toBe(2);
});

it("asks again whom it could not ask", async () => {
  let isAway = true;
  const board = new FleetBoard(
    {
      counts: () => (isAway ? Promise.reject(new Error("away")) : Promise.resolve(counts)),
      rows: () => Promise.resolve([]),
    },
    () => 0,
  );
  await expect(board.sight()).rejects.toThrow("away");
  isAway = false;
  expect((await board.sight()).counts).toEqual(counts);
});
