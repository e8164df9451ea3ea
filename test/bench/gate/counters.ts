/**
 * What our code does to a device, counted: workloads on images on the virtual clock, of which every figure follows from the code. They
 * are judged by the harness's own gate against the recording beside this file, so that no noise is in them.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultGate, gateOf } from "../../../src/cli/options/engine.ts";
import { nodeDrivers } from "../../../src/node-engine.ts";
import { nodeHost } from "../../../src/platform/node/host.ts";
import {
  type ResultDocument,
  type Verdict,
  type WorkerJson,
  gate,
  runWorkload,
} from "../../../src/workload.ts";
import { root } from "../../support/root.ts";

/** Where the recording lies. */
export const recordingPath = join(root, "test", "bench", "gate", "counters.json");

/** A workload on an image. */
interface Load {
  readonly name: string;
  /** Arguments of `create`, one list for each image; the last is the disk. */
  readonly images: readonly (readonly string[])[];
  readonly phases: readonly (readonly WorkerJson[])[];
}

const SIZE = "16M";
const image = (name: string, ...more: string[]): string[] => ["-f", "qcow2", ...more, name, SIZE];
const overlay = [image("base.qcow2"), image("top.qcow2", "-b", "base.qcow2", "-F", "qcow2")];
const fill: WorkerJson = { name: "fill", mix: "write", sizes: "64k", depth: 4, data: { compress: 50 } };
const guest: WorkerJson = {
  name: "guest",
  mix: { read: 4, write: 4, zero: 1, discard: 1 },
  sizes: [
    { size: "4k", weight: 3 },
    { size: "64k", weight: 1 },
  ],
  locality: { zipf: 1.1 },
  depth: 8,
  flushEvery: 16,
  requests: 1500,
};
const slow: WorkerJson = { ...guest, rate: 2000, requests: 400 };

/** They. */
export const loads: readonly Load[] = [
  { name: "a guest on a new qcow2 image", images: [image("disk.qcow2")], phases: [[guest]] },
  { name: "a guest on a full qcow2 image", images: [image("disk.qcow2")], phases: [[fill], [guest]] },
  { name: "a guest on an overlay", images: overlay, phases: [[guest]] },
  ...(["mirror", "backup"] as const).map((type) => ({
    name: `a ${type} beside a guest`,
    images: [image("disk.qcow2")],
    phases: [[fill], [slow, { name: "job", job: { type } }]],
  })),
  {
    name: "a stream beside a guest",
    images: overlay,
    phases: [
      [{ ...fill, region: { size: "8M" } }],
      [slow, { name: "job", job: { type: "stream" as const } }],
    ],
  },
];

/** What the gate looks at; the rest of a document is large, or tells of this machine. */
function trimmed(result: ResultDocument): ResultDocument {
  const totals = Object.entries(result.totals).map(([name, total]) => [
    name,
    { ...total, response: { ...total.response, hdr: "" }, service: { ...total.service, hdr: "" } },
  ]);
  const workers = result.workers.map(({ name, endsByTime }) => ({ name, endsByTime }));
  const { format, version, workload, status, seed, clock, device, digest, elapsedNs, devices, resources } =
    result;
  const kept = {
    format,
    version,
    workload,
    status,
    seed,
    clock,
    device,
    digest,
    elapsedNs,
    devices,
    resources,
  };
  return { ...kept, totals: Object.fromEntries(totals) as unknown, workers } as unknown as ResultDocument;
}

/** Runs one load in a folder of its own. Throws where it fails. */
export async function countersOf({ name, images, phases }: Load): Promise<ResultDocument> {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-gate-"));
  try {
    const cli = join(root, "build", "cli", "main.js");
    for (const words of images)
      execFileSync(process.execPath, [cli, "create", "-q", ...words], { cwd: folder });
    const result = await runWorkload(
      { name, phases: phases.map((workers) => ({ workers })) },
      {
        seed: 1,
        device: "ssd",
        target: join(folder, images.at(-1)!.at(-2)!),
        overwrite: true,
        gate: gateOf(defaultGate),
        platform: { host: nodeHost(), drivers: nodeDrivers },
      },
    );
    if (result.status !== "done") throw new Error(`${name}: ${result.errors[0]?.message}`);
    return trimmed(result);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The recording, by the loads' names; empty where there is none. */
export function recorded(): Record<string, unknown> {
  return existsSync(recordingPath)
    ? (JSON.parse(readFileSync(recordingPath, "utf8")) as Record<string, unknown>)
    : {};
}

/** Writes the recording anew. */
export async function record(): Promise<void> {
  const all: Record<string, ResultDocument> = {};
  for (const load of loads) all[load.name] = await countersOf(load);
  writeFileSync(recordingPath, `${JSON.stringify(all, undefined, 1)}\n`);
}

/** The gate's verdict on a load that was just run. */
export function verdictOn(name: string, now: ResultDocument, base: unknown = recorded()[name]): Verdict {
  if (base !== undefined) return gate(base, now);
  return { verdict: "no verdict", worse: [], better: [], notes: ["it is not in the recording (--record)"] };
}
