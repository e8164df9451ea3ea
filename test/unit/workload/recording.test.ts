/** Recordings: fio's iologs and blkparse's text as requests and times, and our own recording replayed as it was. */
import { describe, expect, it } from "vitest";
import { type Plan, Recorder, parseWorkload, runWorkload } from "../../../src/workload.ts";

const entries = (plan: Plan): unknown[] =>
  plan.workers[0]!.trace!.map(({ operation, offset, bytes, atNs }) => [operation, offset, bytes, atNs]);

describe("recordings are read", () => {
  it("fio's iolog version 2: waits and requests", async () => {
    const text =
      "fio version 2 iolog\n/dev/x add\n/dev/x open\n/dev/x read 0 4096\n/dev/x wait 1000 0\n/dev/x write 8192 512\n/dev/x trim 4096 4096\n/dev/x frob 0 1\n/dev/x sync 0 0\n/dev/x close\n";
    const plan = await parseWorkload(text);
    expect(entries(plan)).toEqual([
      ["read", 0, 4096, 0],
      ["write", 8192, 512, 1e6],
      ["discard", 4096, 4096, 1e6],
      ["flush", 0, 0, 1e6],
    ]);
    expect(plan.ignored).toEqual([{ name: "frob", where: "line 8", reason: "no request" }]);
  });

  it("version 3: times, from the first request on, at any speed", async () => {
    const text = "fio version 3 iolog\n5 d add\n10 d read 0 4096\n12 d write 4096 4096\n";
    expect(entries(await parseWorkload(text))).toEqual([
      ["read", 0, 4096, 0],
      ["write", 4096, 4096, 2e6],
    ]);
    expect(entries(await parseWorkload(text, { speed: 4 }))[1]).toEqual(["write", 4096, 4096, 0.5e6]);
    expect(entries(await parseWorkload(text, { speed: 0 }))[1]).toEqual(["write", 4096, 4096, undefined]);
  });

  it("blkparse's text: what was queued", async () => {
    const text = [
      "  8,0    3        1     0.000000000   697  Q   W 223490 + 8 [kjournald]",
      "  8,0    3        2     0.000001829   697  G   W 223490 + 8 [kjournald]",
      "  8,0    3        3     0.002500000   697  Q  RA 100 + 16 [cat]",
      "  8,0    3        4     0.003000000   697  Q   D 200 + 8 [fstrim]",
      "CPU3 (8,0):",
    ].join("\n");
    expect(entries(await parseWorkload(text))).toEqual([
      ["write", 223490 * 512, 4096, 0],
      ["read", 51_200, 8192, 2.5e6],
      ["discard", 102_400, 4096, 3e6],
    ]);
  });

  it.each([
    ["fio version 2 iolog\n/dev/x read -5 4096\n", "is no request"],
    ["fio version 3 iolog\n", "has no request"],
  ])("%j is refused", async (text, message) => {
    await expect(parseWorkload(text)).rejects.toThrow(message);
  });
});

it("what was recorded is replayed: the same requests, at their times", async () => {
  const workload = {
    size: "1M",
    workers: [
      {
        mix: { read: 2, write: 2, discard: 1, flush: 1 },
        locality: "random" as const,
        rate: 250,
        requests: 200,
        depth: 16,
      },
    ],
  };
  const recorder = new Recorder();
  const first = await runWorkload(workload, { record: recorder.record });
  const again = await runWorkload(recorder.text, { size: 2 ** 20 });
  expect(again.status).toBe("done");
  expect(again.digest.requests).toBe(first.digest.requests);
  expect(Math.abs(again.elapsedNs - first.elapsedNs)).toBeLessThan(1e6);
  expect(again.workers[0]!.requests).toBe(200);
});
