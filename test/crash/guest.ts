// A guest with a job under its disk, in a process that is made to be killed: `guest.mjs STORY.json`. All that it does goes
// to standard output, one JSON line each, in the order in which it happens: writes and flushes before they are issued
// and after they were acknowledged, the job's events, and the steps of the command.
import { readFileSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { NodeSpec } from "../../src/block/model/contract.ts";
import { fileGate } from "../../src/block/model/gate.ts";
import { portableDrivers } from "../../src/drivers/index.ts";
import { file } from "../../src/drivers/protocol/file.ts";
import { whenReady } from "../../src/api/jobs.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import { GuestDevice } from "../../src/machine/device.ts";
import { Engine } from "../../src/machine/engine.ts";
import { randomness } from "../support/random.ts";
import { type Death, killingHost } from "./support/killing-host.ts";
import { startJob } from "./support/start-job.ts";

/** What this process is told to do. */
export interface GuestStory {
  seed: number;
  nodes: Record<string, unknown>[];
  command: { execute: string; arguments: Record<string, unknown> };
  completes: boolean;
  /** Requests of the guest at once; 0: it does nothing. */
  lanes: number;
  /** How long the guest goes on after the job's end, ms. */
  afterMs: number;
  death?: Death;
}

const SECTOR = 512;
/** How many requests a lane makes without a pause, and how many before the pauses have doubled. */
const BUSY_REQUESTS = 200;

function say(line: Record<string, unknown>): void {
  const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
  for (let at = 0; at < bytes.byteLength;) {
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      // The parent is behind: its end of the pipe is full.
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
    }
  }
}

/** One lane of the guest writes to its own part of the disk, so that no two of its requests overlap. */
class Lane {
  readonly #device: GuestDevice;
  readonly #random: (limit: number) => number;
  readonly #first: number;
  readonly #sectors: number;
  readonly #ids: () => number;

  constructor(init: {
    device: GuestDevice;
    seed: number;
    first: number;
    sectors: number;
    ids: () => number;
  }) {
    this.#device = init.device;
    this.#random = randomness(init.seed);
    this.#first = init.first;
    this.#sectors = init.sectors;
    this.#ids = init.ids;
  }

  /**
   * The lane writes as fast as it can at first, and then with pauses that double: a job that copies behind its back
   * catches up in the end, however slow the machine.
   */
  async run(goesOn: () => boolean): Promise<void> {
    for (let requests = 0; goesOn(); requests++) {
      if (requests >= BUSY_REQUESTS) await sleep(2 ** Math.min(10, requests / BUSY_REQUESTS - 1));
      const dice = this.#random(10);
      if (dice < 7) await this.#write();
      else if (dice < 8) await this.#flush();
      else await sleep(this.#random(4));
    }
  }

  async #write(): Promise<void> {
    const random = this.#random;
    const count = 1 + random(random(4) === 0 ? 300 : 12);
    const at = this.#first + random(this.#sectors - count + 1);
    const id = this.#ids();
    const zeroes = random(6) === 0;
    const write = { id, offset: at * SECTOR, bytes: count * SECTOR, value: zeroes ? 0 : id };
    say({ say: "write", ...write });
    if (zeroes) await this.#device.writeZeroes(write.offset, write.bytes);
    else
      await this.#device.write(
        write.offset,
        new Uint8Array(new Uint32Array(write.bytes / 4).fill(id).buffer),
      );
    say({ say: "written", id });
  }

  async #flush(): Promise<void> {
    const id = this.#ids();
    say({ say: "flush", id });
    await this.#device.flush();
    say({ say: "flushed", id });
  }
}

async function play(story: GuestStory): Promise<void> {
  const { host, changes } = killingHost(story.death);
  const drivers = [...portableDrivers, file];
  const engine = new Engine({
    host,
    kernels: loadKernels({ arenaBytes: 2 ** 23 }),
    drivers,
    gate: fileGate("local", host),
  });
  for (const node of story.nodes) await engine.graph.add(node as unknown as NodeSpec);
  const node = engine.graph.node("disk");
  const device = await GuestDevice.plug({ machine: engine.machine, name: "guest", node });
  engine.graph.events.subscribe(({ event, data }) => say({ say: "event", event, data }));
  const job = await startJob(engine, story.command);
  let goesOn = true;
  let last = 0;
  const sectors = Math.floor(device.length / SECTOR / Math.max(1, story.lanes));
  const lanes = Array.from({ length: story.lanes }, (_, index) =>
    new Lane({
      device,
      seed: story.seed * 16 + index,
      first: index * sectors,
      sectors,
      ids: () => ++last,
    }).run(() => goesOn),
  );
  if (story.completes) {
    await whenReady(job);
    say({ say: "complete" });
    await job.complete();
    say({ say: "completing" });
  }
  await job.done;
  say({ say: "done", changes: changes() });
  await sleep(story.afterMs);
  goesOn = false;
  await Promise.all(lanes);
  say({ say: "end", changes: changes() });
}

await play(JSON.parse(readFileSync(process.argv[2]!, "utf8")) as GuestStory);
process.kill(process.pid, "SIGKILL");
