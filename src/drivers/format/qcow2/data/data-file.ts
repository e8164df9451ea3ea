/**
 * The external data file: guest data lies in a file of its own, each cluster at its guest offset, and the image's file
 * holds metadata only. With the raw flag the data file alone must read as the disk does.
 * Source: qcow2.txt, "External data file"; behaviour of QEMU 7.2.
 */
import { BlockError, CommandError } from "../../../../base/errors.ts";
import type { Edge } from "../../../../block/model/contract.ts";
import {
  type ChildRef,
  type NodeSpec,
  type OpenContext,
  Req,
  type RequestFlags,
  Role,
} from "../../../../block/model/contract.ts";
import { Extension } from "../disk/header-extensions.ts";
import type { Header } from "../disk/header.ts";
import type { Image } from "../metadata/image.ts";
import { Autoclear, Incompatible } from "../disk/layout.ts";

/** Whether the image keeps its data elsewhere. */
export function hasDataFile(header: Header): boolean {
  return (Number(header.incompatible) & Incompatible.dataFile) !== 0;
}

/** Whether the data file is to be kept readable as a raw image. */
export function isRawDataFile(header: Header): boolean {
  return hasDataFile(header) && (header.autoclear & BigInt(Autoclear.dataFileRaw)) !== 0n;
}

/** The data file's name in the image's header. */
export function dataFileName(header: Header): string | undefined {
  const record = header.extensions.find(({ type }) => type === Extension.dataFile);
  return record && new TextDecoder().decode(record.data);
}

/**
 * Opens the data file that the image needs: as the spec says, or as the header says and the gate allows; never by a guess at
 * its format. Errors in QEMU's words; EPERM where the gate refuses.
 */
export async function openDataFile(
  context: OpenContext,
  spec: NodeSpec,
  { header, filename }: { header: Header; filename: string },
): Promise<Edge | undefined> {
  const given = spec["data-file"] as ChildRef | undefined;
  if (!hasDataFile(header)) {
    if (given === undefined) return undefined;
    throw new CommandError("'data-file' can only be set for images with an external data file");
  }
  const ref = given ?? (await allowed(context, dataFileName(header), filename));
  return context.openChild(ref, "data-file", Role.data);
}

async function allowed({ node }: OpenContext, name: string | undefined, image: string): Promise<NodeSpec> {
  if (!name) throw new CommandError("'data-file' is required for this image");
  const answer = await node.gate({ kind: "data-file", image, name, format: "raw" });
  if ("refuse" in answer) {
    const message = `Could not open data file: ${answer.refuse}`;
    throw new BlockError({ code: "EPERM", op: "open", node: node.name, message });
  }
  // The file itself: an external data file has no format.
  const { driver, file } = answer.allow;
  return driver === "raw" && typeof file === "object" && file !== null ? (file as NodeSpec) : answer.allow;
}

/** Keeps a raw data file in step with clusters that are about to read as zeroes; otherwise does nothing. */
export async function zeroRawData(
  image: Image,
  { from, to, flags }: { from: number; to: number; flags: RequestFlags },
): Promise<void> {
  const end = Math.min(to, image.size);
  if (isRawDataFile(image.header) && from < end) {
    await image.data.pwriteZeroes(from, end - from, flags & Req.mayUnmap);
  }
}

/** Tells the data file what is not needed any more. A failed discard costs only space. */
export async function discardData(
  image: Image,
  runs: readonly { offset: number; bytes: number }[],
): Promise<void> {
  for (const { offset, bytes } of runs) {
    const end = Math.min(offset + bytes, image.data.length);
    if (offset < end) await image.data.pdiscard(offset, end - offset).catch(() => undefined);
  }
}
