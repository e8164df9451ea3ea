// The end of a program that has done all it had to: what is taken down, and who is told before.
import { afterEach, expect, test, vi } from "vitest";
import { endDone } from "../../../../src/platform/node/exit.ts";
import * as native from "../../../../src/platform/node/native.ts";

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

class Ended extends Error {}

/** What endDone() does, as far as a process that stays can see it. */
function endOf({ execArgv, status }: { execArgv: string[]; status: number }): string[] {
  const order: string[] = [];
  const calls = { exit: (of: number) => order.push(`system ${of}`) };
  vi.spyOn(native, "nativeIfLoaded").mockReturnValue(calls as unknown as native.NativeCalls);
  vi.spyOn(process, "execArgv", "get").mockReturnValue(execArgv);
  const before = process.listeners("exit");
  const own = (): unknown => order.push("listener");
  process.on("exit", own);
  vi.spyOn(process, "exit").mockImplementation(() => {
    for (const listener of process.listeners("exit")) {
      if (before.includes(listener)) continue;
      listener.call(process, status);
      process.off("exit", listener);
    }
    order.push("node");
    throw new Ended();
  });
  expect(endDone).toThrow(Ended);
  return order;
}

test("listeners come before the system ends the process, with the status that it has", () => {
  vi.stubEnv("NODE_OPTIONS", "");
  vi.stubEnv("NODE_V8_COVERAGE", "");
  expect(endOf({ execArgv: [], status: 3 })).toEqual(["listener", "system 3", "node"]);
});

test("Node ends itself where somebody looks at it", () => {
  vi.stubEnv("NODE_V8_COVERAGE", "");
  vi.stubEnv("NODE_OPTIONS", "");
  expect(endOf({ execArgv: ["--cpu-prof"], status: 0 })).toEqual(["listener", "node"]);
  vi.stubEnv("NODE_OPTIONS", "--inspect");
  expect(endOf({ execArgv: [], status: 0 })).toEqual(["listener", "node"]);
  vi.stubEnv("NODE_OPTIONS", "");
  vi.stubEnv("NODE_V8_COVERAGE", "/somewhere");
  expect(endOf({ execArgv: [], status: 0 })).toEqual(["listener", "node"]);
});
