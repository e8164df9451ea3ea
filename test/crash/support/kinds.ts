// The kinds of jobs that are killed: their images, nodes and commands, and which image is the disk before and after.
import { join } from "node:path";

/** An image file by its name in the story's directory. */
export interface ImageName {
  file: string;
  format: "raw" | "qcow2";
}

/** One kind of job. */
export interface JobKind {
  name: string;
  /** Template images that it needs, copied into its directory. */
  images: readonly string[];
  /** Nodes to add, in order; the last one is the disk. */
  nodes: (directory: string) => Record<string, unknown>[];
  command: { execute: string; arguments: Record<string, unknown> };
  /** READY is followed by job-complete. */
  completes: boolean;
  /** The guest's disk while the job has not ended. */
  before: ImageName;
  /** The guest's disk once it has completed. */
  after: ImageName;
  /** The copy that must hold the disk as it was at the start, once the job has completed. */
  copy?: ImageName;
  /** What `after` must name as its backing file then: a file, or null for none. Absent: nothing is asked. */
  backingAfter?: string | null;
  /** What must hold the disk's start content at READY, as long as nobody writes. */
  readyCopy?: ImageName;
}

/** Length of every disk here, bytes. */
export const DISK_BYTES = 6 * 2 ** 20;

const top: ImageName = { file: "top.qcow2", format: "qcow2" };
const base: ImageName = { file: "base.qcow2", format: "qcow2" };
const raw: ImageName = { file: "disk.raw", format: "raw" };
const emptyRaw: ImageName = { file: "target.raw", format: "raw" };
const emptyQcow2: ImageName = { file: "target.qcow2", format: "qcow2" };

const chain = ["base.qcow2", "mid.qcow2", "top.qcow2"];

function node(name: string, image: ImageName, more: Record<string, unknown>): Record<string, unknown> {
  const filename = more["directory"] as string;
  const { directory: _directory, ...options } = more;
  const file = { driver: "file", filename: join(filename, image.file) };
  return { driver: image.format, "node-name": name, discard: "unmap", file, ...options };
}

function chainNodes(directory: string): Record<string, unknown>[] {
  const mid: ImageName = { file: "mid.qcow2", format: "qcow2" };
  const lowest = node("base", base, { directory, backing: null });
  const middle = node("mid", mid, { directory, backing: lowest });
  return [node("disk", top, { directory, backing: middle })];
}

function pair(source: ImageName, target: ImageName): JobKind["nodes"] {
  const independent = (image: ImageName) => (image.format === "qcow2" ? { backing: null } : {});
  return (directory) => [
    node("target", target, { directory, ...independent(target) }),
    node("disk", source, { directory, ...independent(source) }),
  ];
}

function chainKind(
  name: string,
  command: JobKind["command"],
  rest: Pick<JobKind, "completes" | "after"> & Partial<JobKind>,
): JobKind {
  return { name, images: chain, nodes: chainNodes, command, before: top, ...rest };
}

function mirrorKind(name: string, source: ImageName, target: ImageName): JobKind {
  return {
    name,
    images: [source.file, target.file],
    nodes: pair(source, target),
    command: {
      execute: "blockdev-mirror",
      arguments: { "job-id": "job", device: "disk", target: "target", sync: "full" },
    },
    completes: true,
    before: source,
    after: target,
    readyCopy: target,
  };
}

const device = { "job-id": "job", device: "disk" };

/** All kinds. */
export const kinds: readonly JobKind[] = [
  chainKind(
    "stream",
    { execute: "block-stream", arguments: device },
    { completes: false, after: top, backingAfter: null },
  ),
  chainKind(
    "stream-to-base",
    { execute: "block-stream", arguments: { ...device, "base-node": "base" } },
    { completes: false, after: top, backingAfter: "base.qcow2" },
  ),
  chainKind(
    "commit",
    { execute: "block-commit", arguments: { ...device, "top-node": "mid", "base-node": "base" } },
    { completes: false, after: top, backingAfter: "base.qcow2" },
  ),
  chainKind(
    "commit-active",
    { execute: "block-commit", arguments: { ...device, "base-node": "base" } },
    { completes: true, after: base },
  ),
  mirrorKind("mirror-raw-raw", raw, emptyRaw),
  mirrorKind("mirror-raw-qcow2", raw, emptyQcow2),
  mirrorKind("mirror-qcow2-qcow2", base, emptyQcow2),
  {
    name: "backup-raw-qcow2",
    images: [raw.file, emptyQcow2.file],
    nodes: pair(raw, emptyQcow2),
    command: { execute: "blockdev-backup", arguments: { ...device, target: "target", sync: "full" } },
    completes: false,
    before: raw,
    after: raw,
    copy: emptyQcow2,
  },
];
