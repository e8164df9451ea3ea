/** Recordings: fio's iologs and blkparse's text as requests and times, and our own recording replayed as it was. */
import { describe, expect, it } from "vitest";
import { type Plan, Recorder, parseWorkload, runWorkload } from "../../../src/workload.ts";

const entries = (plan: Plan): unknown[] =>
  [...plan.workers[0]!.trace!()].map(({ operation, offset, bytes, atNs }) => [
    operation,
    offset,
    bytes,
    atNs,
  ]);

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

  it("version 3: microseconds, from the first request on, at any speed", async () => {
    const text = "fio version 3 iolog\n5 d add\n10000 d read 0 4096\n12000 d write 4096 4096\n";
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

  it("blkparse's flushes and FUA, alone and with a write", async () => {
    const text = [
      "  8,0    0        1     0.000000000   697  Q FWS [kworker]",
      "  8,0    0        2     0.001000000   697  Q FWFSM 8 + 8 [jbd2]",
      "  8,0    0        3     0.002000000   697  Q WFS 16 + 8 [jbd2]",
      "  8,0    0        4     0.003000000   697  Q   N [smartd]",
    ].join("\n");
    const plan = await parseWorkload(text);
    expect(entries(plan)).toEqual([
      ["flush", 0, 0, 0],
      ["flush", 0, 0, 1e6],
      ["write", 4096, 4096, 1e6],
      ["write", 8192, 4096, 2e6],
    ]);
    expect([...plan.workers[0]!.trace!()].map(({ fua = false }) => fua)).toEqual([false, false, true, true]);
  });

  it("files of one recording are parts of one disk, one after the other", async () => {
    const text =
      "fio version 3 iolog\n0 a read 8192 4096\n5 b write 0 512\n7 a sync 0 0\n9 b trim 4096 4096\n";
    expect(entries(await parseWorkload(text))).toEqual([
      ["read", 8192, 4096, 0],
      ["write", 2 ** 20, 512, 5e3],
      ["flush", 0, 0, 7e3],
      ["discard", 2 ** 20 + 4096, 4096, 9e3],
    ]);
  });

  it.each([
    ["fio version 2 iolog\n/dev/x read -5 4096\n", "is no request"],
    ["fio version 3 iolog\n", "has no request"],
    ["fio version 3 iolog\n7 d write 4096\n", "line 2: 'd write 4096' is no request"],
    ["fio version 2 iolog\nd read\n", "line 2: 'd read' is no request"],
    ["fio version 3 iolog\nsoon /dev/x read 0 4096\n", "line 2: 'soon' is no time"],
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
  expect(Math.abs(again.elapsedNs - first.elapsedNs)).toBeLessThan(1e4);
  expect(again.workers[0]!.requests).toBe(200);
});

describe("logs of writes", () => {
  const SECTOR = 512;
  const block = (...words: bigint[]): Uint8Array => {
    const bytes = new Uint8Array(SECTOR);
    const view = new DataView(bytes.buffer);
    for (const [i, word] of words.entries()) view.setBigUint64(8 * i, word, true);
    return bytes;
  };
  const data = new Uint8Array(2 * SECTOR).map((_byte, i) => i % 251);
  const log = [
    block(0x6a736677736872n, 1n, 5n, BigInt(SECTOR)),
    block(8n, 2n, 0n, 0n),
    data,
    block(0n, 0n, 8n, 4n),
    block(16n, 4n, 4n, 0n),
    block(0n, 0n, 1n, 0n),
    block(9n, 1n, 3n, 0n),
    data.subarray(0, SECTOR),
  ];
  const joined = (parts: readonly Uint8Array[]): Uint8Array =>
    Uint8Array.from(parts.flatMap((part) => [...part]));

  it("have writes with their data, discards, flushes and FUA; marks are none", async () => {
    const plan = await parseWorkload(joined(log));
    expect(entries(plan)).toEqual([
      ["write", 4096, 1024, undefined],
      ["discard", 8192, 2048, undefined],
      ["flush", 0, 0, undefined],
      ["flush", 0, 0, undefined],
      ["write", 4608, 512, undefined],
    ]);
    const [first, , , , last] = [...plan.workers[0]!.trace!()];
    expect(first!.data).toEqual(data);
    expect(last).toMatchObject({ fua: true, data: data.subarray(0, SECTOR) });
  });

  it("give the disk that was logged", async () => {
    const image = new Uint8Array(64 * SECTOR);
    image.set(data, 4096);
    image.set(data.subarray(0, SECTOR), 4608);
    const replayed = await runWorkload(await parseWorkload(joined(log)), { size: image.length });
    const memory = { target: { driver: "memory", buffer: image }, size: image.length };
    const read = await runWorkload({ workers: [{ mix: "read", requests: 1 }] }, memory);
    expect(replayed).toMatchObject({ status: "done", digest: { disk: read.digest.disk } });
  });

  it("that end early have what is whole in them", async () => {
    for (const cut of [joined(log).subarray(0, -1), joined(log.slice(0, 7))])
      expect(entries(await parseWorkload(cut))).toHaveLength(4);
  });

  it.each<[string, Uint8Array]>([
    ["version 2", joined([block(0x6a736677736872n, 2n, 5n, 512n)])],
    ["sectors of 1000 bytes", joined([block(0x6a736677736872n, 1n, 5n, 1000n)])],
    ["out of range", joined([block(0x6a736677736872n, 1n, 5n, 512n), block(0n, 2n ** 60n, 0n, 0n)])],
    ["within its head", joined([block(0x6a736677736872n, 1n, 5n, 512n).subarray(0, 100)])],
  ])("%s is refused", async (message, bytes) => {
    await expect(parseWorkload(bytes)).rejects.toThrow(message);
  });
});

describe("memory stays flat", () => {
  it("of a recording that is read piece by piece, however it is cut", async () => {
    const text = "fio version 3 iolog\n0 d add\n".concat(
      ...Array.from({ length: 500 }, (_, i) => `${i * 10} d write ${(i % 64) * 512} 512\n`),
    );
    const whole = await runWorkload(text);
    const bytes = new TextEncoder().encode(text);
    let reads = 0;
    const pieces = function* (): Generator<Uint8Array> {
      reads += 1;
      for (let at = 0; at < bytes.length; at += 7) yield bytes.subarray(at, at + 7);
    };
    const plan = await parseWorkload(pieces);
    const cut = await runWorkload(plan);
    expect(cut.digest).toEqual(whole.digest);
    expect(cut.elapsedNs).toBe(whole.elapsedNs);
    // Its kind, what it needs, and what is sent, each read anew.
    expect(reads).toBeGreaterThan(2);
  });

  it("of a recorder that writes on", async () => {
    const written: string[] = [];
    const [kept, passed] = [new Recorder(), new Recorder((text) => void written.push(text))];
    for (let i = 0; i < 10_000; i++)
      for (const recorder of [kept, passed])
        recorder.record({ operation: "write", offset: i * 512, bytes: 512 }, i * 1e3);
    expect(written.length).toBeGreaterThan(1);
    passed.end();
    expect(written.join("")).toBe(kept.text);
  });
});
