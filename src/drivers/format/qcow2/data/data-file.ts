/**
 * The external data file: guest data lies in a file of its own, each cluster at its guest offset, and the image's file
 * holds metadata only. With the raw flag the data file alone must read as the disk does.
 * Source: qcow2.txt, "External data file"; behaviour of QEMU 7.2.
 */
import { decodeName } from "../../../../base/names.ts";
import { rescue } from "../../../../base/answer.ts";
import { BlockError, blockError, CommandError } from "../../../../base/errors.ts";
import type { Edge } from "../../../../block/model/contract.ts";
import {
  type ChildRef,
  type NodeSpec,
  type OpenContext,
  Req,
  type RequestFlags,
  Role,
} from "../../../../block/model/contract.ts";
import { imageFilename } from "../../../../block/model/filename.ts";
import { checkOpened } from "../../../../block/model/filename.ts";
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
  return record && decodeName(record.data);
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
    // As QEMU, which says first what is wrong with the file.
    await context.openChild(given, "data-file", Role.data);
    throw new CommandError("'data-file' can only be set for images with an external data file");
  }
  if (given !== undefined) return context.openChild(given, "data-file", Role.data);
  // Whoever only looks at metadata has no use for it, and opens nothing on an image's word.
  if (context.metadataOnly) return undefined;
  return openNamed(context, dataFileName(header), filename);
}

/** An image becomes writable: the gate is asked about the data file that its header names once more, now for writing. */
export async function askForWriting({ node, header, file, hasData }: Image): Promise<void> {
  if (!hasDataFile(header) || node.spec["data-file"] !== undefined) return;
  if (!hasData) throw blockError("EACCES", "open", "The image was opened for its metadata only");
  const name = dataFileName(header) ?? "";
  const image = imageFilename(file.node);
  const answer = await node.gate({ kind: "data-file", image, name, format: "raw", access: "write" });
  if ("refuse" in answer) throw refused(node.name, answer.refuse);
}

function refused(node: string, why: string): BlockError {
  return new BlockError({ code: "EPERM", op: "open", node, message: `Could not open data file: ${why}` });
}

async function openNamed(context: OpenContext, name: string | undefined, image: string): Promise<Edge> {
  const { node } = context;
  if (!name) throw new CommandError("'data-file' is required for this image");
  const access = context.readOnly ? "read" : "write";
  const answer = await node.gate({ kind: "data-file", image, name, format: "raw", access });
  if ("refuse" in answer) throw refused(node.name, answer.refuse);
  // The file itself: an external data file has no format.
  const { driver, file } = answer.allow;
  const plain = driver === "raw" && typeof file === "object" && file !== null;
  const child = await context.openChild(plain ? (file as NodeSpec) : answer.allow, "data-file", Role.data);
  checkOpened(child.node, answer);
  return child;
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
    if (offset >= end) continue;
    await rescue(
      () => image.data.pdiscard(offset, end - offset),
      () => undefined,
    );
  }
}
