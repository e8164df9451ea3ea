// Two media that are put into one drive at once.
import { expect, test } from "vitest";
import { createEngine } from "../../../../src/browser.ts";
import { Board } from "../../../../src/machine/board/board.ts";
import { insertMedium } from "../../../../src/machine/board/media.ts";

test("one gets in, and the other is told that there is one", async () => {
  const engine = createEngine({ arenaBytes: 24 * 2 ** 20 });
  const board = new Board(engine);
  const drive = board.addDrive({ name: "d" });
  for (const name of ["a", "b"])
    await engine.graph.add({ driver: "memory", size: 2 ** 20, "node-name": name });
  const ended = await Promise.allSettled(
    ["a", "b"].map((name) => insertMedium(board, { device: "d" }, name)),
  );
  expect(ended.map((one) => (one.status === "rejected" ? String(one.reason) : "in"))).toEqual([
    "in",
    "CommandError: There already is a medium in device 'd'",
  ]);
  expect(drive.node?.name).toBe("a");
  await drive.remove();
  expect([drive.isTaken, engine.graph.node("b").parents.size]).toEqual([false, 0]);
  await engine.close();
});
