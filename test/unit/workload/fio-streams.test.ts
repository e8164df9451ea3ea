/** What is sent for a job file, counted: the figures are those of fio 3.33 for the same file (its null engine, write_iolog). */
import { describe, expect, it } from "vitest";
import { loadTwinKernels } from "../../../src/kernels/load.ts";
import { planOfFio } from "../../../src/workload/fio/plan.ts";
import { type Request, RequestStream, passBytes } from "../../../src/workload/stream/requests.ts";
import { FreeMap } from "../../../src/workload/random/free-map.ts";

const kernels = loadTwinKernels({ arenaBytes: 65_536 });

/** All requests of the only worker of a job. */
async function sent(options: string, size = 4 * 2 ** 20): Promise<Request[]> {
  const { workers } = await planOfFio(`[job]\nsize=${size}\n${options}`, "job");
  const plan = workers[0]!;
  const extent = { offset: 0, bytes: size };
  const stream = new RequestStream({ plan, extent, seed: 1, worker: 0, kernels });
  const { requests = Infinity, bytes = Infinity, passes = Infinity } = plan.until;
  const most = Math.min(bytes, passes * passBytes(plan, extent));
  const all: Request[] = [];
  for (let total = 0; total < most && all.length < requests; total += all.at(-1)!.bytes)
    all.push(stream.next());
  return all;
}

const sum = (requests: readonly Request[]): number => requests.reduce((total, { bytes }) => total + bytes, 0);

const countOf = (requests: readonly Request[], wanted: Request["operation"]): number =>
  requests.filter(({ operation }) => operation === wanted).length;

describe("how many requests", () => {
  it.each([
    ["a trim and its write are one", "rw=trimwrite\nbs=4k\nnumber_ios=100\n", { discard: 100, write: 100 }],
    ["each of them has the size", "rw=randtrimwrite\nbs=4k\nio_size=1m\n", { discard: 256, write: 256 }],
    ["a pass has whole blocks only", "rw=write\nbs=3k\nsize=100k\nloops=3\n", { write: 99 }],
    ["io_size is reached", "rw=write\nbs=3k\nio_size=10m\n", { write: 3414 }],
  ] as const)("%s", async (_name, options, counts) => {
    const size = options.includes("100k") ? 102_400 : 4 * 2 ** 20;
    const requests = await sent(options, size);
    for (const [operation, count] of Object.entries(counts))
      expect(countOf(requests, operation as Request["operation"]), operation).toBe(count);
  });
});

describe("random requests of many sizes, with fio's map", () => {
  it.each(["rw=randrw\nbsrange=1k-9k\n", "rw=randwrite\nbssplit=4k/50:64k/20:128k\n"])(
    "%j: each byte once, and requests end where one was before",
    async (options) => {
      const requests = await sent(options);
      expect(sum(requests)).toBe(4 * 2 ** 20);
      const ends = [...requests]
        .toSorted((a, b) => a.offset - b.offset)
        .reduce((at, { offset, bytes }) => (offset === at ? at + bytes : Number.NaN), 0);
      expect(ends).toBe(4 * 2 ** 20);
    },
  );

  it("norandommap has none", async () => {
    const requests = await sent("rw=randread\nbsrange=4k-64k\nnorandommap\n");
    expect(new Set(requests.map(({ offset }) => offset)).size).toBeLessThan(requests.length);
  });

  it("offsets are multiples of each direction's own size", async () => {
    const requests = await sent("rw=randrw\nbs=4k,16k\n");
    for (const { operation, offset, bytes } of requests) {
      expect(bytes).toBe(operation === "read" ? 4096 : 16_384);
      expect(offset % bytes).toBe(0);
    }
  });
});

describe("rates", () => {
  const paced = async (options: string): Promise<unknown> => {
    const { workers, ignored } = await planOfFio(`[job]\nsize=64m\n${options}`, "job");
    const { mix, pace } = workers[0]!;
    return { read: mix.read / (mix.read + mix.write), pace, ignored: ignored.map(({ name }) => name) };
  };

  it.each<[string, number, object]>([
    // fio: 299.9 reads and 100.0 writes a second, whatever rwmixread says.
    ["rw=randrw\nrwmixread=50\nrate_iops=300,100", 0.75, { perSecond: 400, unit: "requests" }],
    // fio: 399.5 of both.
    ["rw=randrw\nrwmixread=80\nrate_iops=400", 0.5, { perSecond: 800, unit: "requests" }],
    // fio: 1022.3 reads of 4 KiB, 63.9 writes of 16 KiB.
    ["rw=randrw\nbs=4k,16k\nrate=4m,1m", 1024 / 1088, { perSecond: 5 * 2 ** 20, unit: "bytes" }],
    ["rw=randread\nbssplit=4k/75:8k/25\nrate=5m\nrate_process=poisson", Number.NaN, { perSecond: 1024 }],
    // fio: 100.0 writes and 100.4 trims.
    ["rw=randtrimwrite\nrate_iops=100", Number.NaN, { perSecond: 200 }],
  ])("%s", async (options, read, pace) => {
    const found = (await paced(options)) as { read: number; pace: object; ignored: string[] };
    if (!Number.isNaN(read)) expect(found.read).toBeCloseTo(read, 9);
    expect(found.pace).toMatchObject(pace);
    expect(found.ignored).toEqual([]);
  });

  it("a direction without one is sent beside the others, and that is named", async () => {
    expect(await paced("rw=randrw\nrwmixread=75\nrate_iops=,100")).toEqual({
      read: 0.75,
      pace: { kind: "fixed", perSecond: 400, unit: "requests" },
      ignored: ["rate"],
    });
  });
});

describe("values", () => {
  const worker = async (options: string, variables = {}): Promise<object> =>
    (await planOfFio(`[job]\nsize=4m\n${options}`, "job", { variables })).workers[0]!;

  it("reserved keywords, percentages of increments, zones by bytes", async () => {
    expect(await worker("bs=$pagesize", { pagesize: "4096" })).toMatchObject({ align: 4096 });
    const { workers } = await planOfFio("[a]\nsize=1m\nnumjobs=3\noffset_increment=10%\n", "job");
    expect(workers.map(({ region }) => region.offsetPercent)).toEqual([undefined, 10, 20]);
    const zoned = (options: string): Promise<object> => worker(`rw=randread\nrandom_distribution=${options}`);
    const spots = [
      { accesses: 60, of: 25 },
      { accesses: 40, of: 50 },
      { accesses: 0, of: 25 },
    ];
    expect(await zoned("zoned_abs:60/1m:40/2m")).toMatchObject({ locality: { spread: { spots } } });
    expect(await zoned("zoned:60/20:30:10")).toMatchObject({
      locality: { spread: { spots: [{ of: 20 }, { of: 40 }, { of: 40 }] } },
    });
  });

  it.each(["pareto:1.5", "zipf:abc", "normal:200", "zoned:60/50:60/50", "zoned:50/40:30/40", "sideways"])(
    "random_distribution=%s is refused, as by fio",
    async (text) => {
      await expect(worker(`rw=randread\nrandom_distribution=${text}`)).rejects.toThrow(
        "random_distribution: ",
      );
    },
  );

  it("what has an effect in part is named", async () => {
    const text = "[a]\nsize=1m\nrw=randrw\nfsync=10\nfdatasync=7\nrandom_distribution=zoned:100/50,100/20\n";
    const { ignored } = await planOfFio(text, "job");
    expect(ignored.map(({ name }) => name)).toEqual(["fdatasync", "random_distribution"]);
  });

  it("several files are no target, and an escaped colon is part of a name", async () => {
    const target = async (name: string): Promise<unknown> =>
      (await planOfFio(`[a]\nsize=1m\nfilename=${name}\n`, "job")).wishes.target;
    expect(await target("one:two")).toBeUndefined();
    expect(await target("/dev/disk/pci-0\\:00")).toBe("/dev/disk/pci-0:00");
  });
});

it.each([1, 31, 32, 33, 1000, 40_000])("a map of %i blocks gives each once, then again", (n) => {
  const map = new FreeMap(n);
  for (let round = 0; round < 2; round++) {
    const taken = new Uint8Array(n);
    let left = n;
    for (let i = 0; left > 0; i++) {
      const { index, count } = map.take((i * 7919) % n, 1 + (i % 5));
      expect(count).toBeGreaterThan(0);
      for (let at = index; at < index + count; at++) taken[at]! += 1;
      left -= count;
    }
    expect(taken.every((times) => times === 1)).toBe(true);
  }
});
