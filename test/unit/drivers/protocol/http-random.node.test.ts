// Random reads of guest and job from a server that fails as its dice say, in virtual time: what arrives is right, and of one
// version; what can't be had fails with the errno that policies go by; and nothing is left over. A failing seed's name is
// its test's.
import { describe, expect, test } from "vitest";
import { errnoOf } from "../../../../src/base/errors.ts";
import type { Host } from "../../../../src/base/host.ts";
import { type BlockDriver, Req } from "../../../../src/block/model/contract.ts";
import { BlockGraph } from "../../../../src/block/graph/graph.ts";
import { http } from "../../../../src/drivers/protocol/http/index.ts";
import { loadKernels } from "../../../../src/kernels/load.ts";
import { ManifestWriter } from "../../../../src/wire/manifest.ts";
import { contentOf } from "../../../support/content.ts";
import { randomness } from "../../../support/random.ts";
import { KiB, MiB } from "../../support/graph.ts";
import { ModelHttp, modelFaults } from "../../support/model-http.ts";
import { VirtualHost } from "../../support/virtual-host.ts";

const SIZE = 300 * KiB + 512;
const content = contentOf(SIZE, 1);
const other = contentOf(SIZE, 2);
const kernels = loadKernels({ arenaBytes: MiB });
const seeds = Array.from({ length: 10 }, (_, i) => i + 1);

function manifestOf(bytes: Uint8Array, clusterBytes: number): Uint8Array {
  const writer = new ManifestWriter({
    size: bytes.byteLength,
    clusterBytes,
    hash: (part) => kernels.xxh3(part),
  });
  for (let at = 0; at < bytes.byteLength; at += clusterBytes)
    writer.add(at / clusterBytes, bytes.subarray(at, at + clusterBytes));
  return writer.finish();
}

interface Story {
  graph: BlockGraph;
  host: VirtualHost;
  server: ModelHttp;
  random: (limit: number) => number;
  driver: BlockDriver;
  /** What came of each read. */
  log: string[];
}

/** A disk that is open; its server begins to fail afterwards. */
async function begin(seed: number, { withManifest }: { withManifest: boolean }): Promise<Story> {
  const random = randomness(seed);
  const host = new VirtualHost();
  const server = new ModelHttp(content, host.clock, seed);
  const graph = new BlockGraph({ host: Object.assign(host, { http: server }) as Host, kernels });
  graph.register(http);
  const spec = {
    driver: "http",
    "node-name": "disk",
    url: "http://server/disk.img",
    "read-only": true,
    "cluster-size": (4 * KiB) << random(4),
    "cache-size": random(3) * 64 * KiB,
    connections: 1 + random(4),
    retries: random(4),
    timeout: 1 + random(3),
    deadline: 4 + random(8),
    ...(withManifest ? { manifest: manifestOf(content, 4 * KiB) } : {}),
  };
  const node = await host.clock.settle(graph.add(spec as never));
  // Only a manifest tells bytes of the right version at the wrong place.
  server.faults = modelFaults.filter((fault) => withManifest || fault !== "shift");
  return { graph, host, server, random, driver: node.driver, log: [] };
}

/** Reads somewhere, and checks what comes; the errno if nothing does. */
async function readOnce(story: Story): Promise<string> {
  const { random, driver } = story;
  const offset = 512 * random(SIZE / 512);
  const buffer = new Uint8Array(Math.min(512 * (1 + random(100)), SIZE - offset)).fill(0xee);
  try {
    await driver.pread(offset, buffer, random(2) === 0 ? Req.background : 0);
  } catch (error) {
    return errnoOf(error);
  }
  const wrong = buffer.findIndex((byte, i) => byte !== content[offset + i]);
  expect(wrong, `a byte of ${buffer.byteLength} at ${offset}`).toBe(-1);
  return "well";
}

/** Some rounds of reads that are under way together. */
async function reads(story: Story, rounds: number): Promise<string[]> {
  const { host, random, log } = story;
  const outcomes: string[] = [];
  for (let round = 0; round < rounds; round++) {
    const together = Array.from({ length: 1 + random(5) }, () => readOnce(story));
    outcomes.push(...(await host.clock.settle(Promise.all(together))));
  }
  log.push(...outcomes);
  return outcomes;
}

/** From now on nothing goes wrong, and what was read ahead while it did has failed by itself. */
async function mend({ server, host }: Story): Promise<void> {
  server.faultEvery = 0;
  while (await host.clock.step());
}

async function end({ graph, host }: Story): Promise<void> {
  await host.clock.settle(graph.remove("disk"));
  await host.clock.idle();
  expect(host.clock.pending, "timers that wait").toBe(0);
}

describe.each([
  ["a server that fails", false],
  ["a server that fails and shifts, behind a manifest", true],
])("%s", (_name, withManifest) => {
  test.each(seeds)("seed %i", async (seed) => {
    const story = await begin(seed, { withManifest });
    const { server, random } = story;
    server.faultEvery = 1 + random(5);
    const outcomes = await reads(story, 12);
    expect(outcomes.filter((outcome) => outcome !== "well" && outcome !== "EIO")).toEqual([]);
    // It is mended: all of it can be had.
    await mend(story);
    expect(new Set(await reads(story, 4))).toEqual(new Set(["well"]));
    expect(story.driver.formatSpecific!()!.data).toEqual({ etag: '"v1"', changed: false });
    await end(story);
  });
});

test.each(seeds)("a source that changes between two requests is never mixed: seed %i", async (seed) => {
  const story = await begin(seed, { withManifest: false });
  const { server, random } = story;
  server.faultEvery = random(2) * 4;
  await reads(story, 1 + random(4));
  server.content = other;
  server.etag = '"v2"';
  const after = await reads(story, 8);
  const allowed = server.faultEvery === 0 ? ["well", "ESTALE"] : ["well", "ESTALE", "EIO"];
  expect(after.filter((outcome) => !allowed.includes(outcome))).toEqual([]);
  await mend(story);
  // Whatever is in the cache is of the first version; what is not can't be had any more.
  const last = await reads(story, 8);
  expect(last.filter((outcome) => outcome !== "well" && outcome !== "ESTALE")).toEqual([]);
  expect(last).toContain("ESTALE");
  expect(story.driver.formatSpecific!()!.data).toMatchObject({ changed: true });
  await end(story);
});

test("one seed replays one story", async () => {
  const tell = async (): Promise<string[]> => {
    const story = await begin(7, { withManifest: false });
    story.server.faultEvery = 2;
    await reads(story, 10);
    await end(story);
    return [...story.server.log, ...story.log];
  };
  expect(await tell()).toEqual(await tell());
});
