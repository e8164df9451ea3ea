// A thread that calls native code is ended, by its owner or by the end of the process, when it is in no such call: the addon aborts
// the process otherwise.
import { spawnSync } from "node:child_process";
import { Worker } from "node:worker_threads";
import { expect, it } from "vitest";
import { Gate, NativeGate, THROUGH_GATE } from "../../../../src/platform/node/native-gate.ts";
import { buildProgram } from "../../../support/program.ts";

it("a process ends well at whatever moment of its threads' beginning", async () => {
  const program = await buildProgram("test/support/ending-thread.ts");
  for (let ms = 24; ms < 48; ms += 2) {
    const { status, signal, stderr } = spawnSync(process.execPath, [program, `${ms}`], { encoding: "utf8" });
    expect({ ms, status, signal, stderr }).toEqual({ ms, status: 0, signal: null, stderr: "" });
  }
});

it("a gate closes when the call has returned, and lets none in after that", async () => {
  const gate = new NativeGate();
  const source = `const { workerData, parentPort } = require("node:worker_threads");
    const through = (${THROUGH_GATE})(workerData.cell);
    const done = new Int32Array(workerData.done);
    through(() => {
      parentPort.postMessage("inside");
      Atomics.wait(done, 1, 0, 300);
      Atomics.store(done, 0, 1);
    });
    parentPort.postMessage(through(() => "in", "refused"));`;
  const done = new SharedArrayBuffer(8);
  const worker = new Worker(source, { eval: true, workerData: { cell: gate.cell, done } });
  const said: unknown[] = [];
  const inside = new Promise<void>((resolve) => {
    worker.on("message", (word: unknown) => {
      said.push(word);
      if (word === "inside") resolve();
    });
  });
  await inside;
  expect(gate.cell[0]).toBe(Gate.inside);
  gate.close();
  expect(new Int32Array(done)[0]).toBe(1);
  await new Promise((resolve) => worker.once("exit", resolve));
  // Whether the thread asked once more before the gate closed or after it, it was never inside a closed one.
  expect(gate.cell[0]).toBe(Gate.closed);
  expect(["in", "refused"]).toContain(said[1]);
});
