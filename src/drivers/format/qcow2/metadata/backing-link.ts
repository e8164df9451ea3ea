/**
 * Rewriting the link to the backing file. The data and metadata that replace the old backing file's content are durable
 * before the header lets go of it, and the header is durable when the change returns; a crash leaves either link.
 * Source: qcow2.txt, "Header", "Header extensions".
 */
import { encodeName } from "../../../../base/names.ts";
import { ImageError } from "../../../../base/errors.ts";
import { limits, SECTOR_SIZE } from "../../../../base/limits.ts";
import { type Header, serializeHeader, setBackingFormat } from "../disk/header.ts";
import { writeHeader } from "./header-update.ts";
import type { Image } from "./image.ts";
import { Autoclear } from "../disk/layout.ts";
import { forgetMadeOver, writeBackLocked } from "./write-back.ts";

/** The new link. */
export interface BackingLink {
  readonly filename: string;
  readonly format?: string | undefined;
}

/** Sets or (null) removes the link. On an error the header in memory is as before. */
export async function changeBackingFile(image: Image, link: BackingLink | null): Promise<void> {
  checkLink(image, link);
  await rewriteHeader(image, (header) => {
    header.backingFile = link?.filename;
    forgetMadeOver(header);
    if (link) setBackingFormat(header, link.format);
    else removeFormat(header);
  });
}

/** Makes everything before durable, changes the header and writes all of it. On an error the header in memory is as before. */
export async function rewriteHeader(image: Image, change: (header: Header) => void): Promise<void> {
  await image.locked(async () => {
    await writeBackLocked(image);
    await image.file.flush();
    const before = { ...image.header };
    try {
      change(image.header);
      await writeHeader(image);
      await image.file.flush();
    } catch (error) {
      Object.assign(image.header, before);
      throw error;
    }
  });
}

function checkLink(image: Image, link: BackingLink | null): void {
  if (!link) return;
  if (image.header.autoclear & BigInt(Autoclear.dataFileRaw)) {
    const message = "Backing file and data-file-raw cannot be used at the same time";
    throw new ImageError({ structure: "header", field: "backing_file", op: "changeBackingFile", message });
  }
  if (encodeName(link.filename).byteLength > limits.maxBackingNameBytes) {
    const message = "Backing file name too long";
    throw new ImageError({ structure: "header", field: "backing_file", op: "changeBackingFile", message });
  }
}

/** Whether the header with its extensions fits the sector that a disk writes at once. */
function isAtomic(header: Header): boolean {
  return serializeHeader({ ...header, backingFile: undefined }).bytes.byteLength <= SECTOR_SIZE;
}

/** Drops the format's extension, unless that would move extensions in later sectors; without a name it says nothing. */
function removeFormat(header: Header): void {
  if (isAtomic(header)) setBackingFormat(header, undefined);
  else header.backingFormat = undefined;
}
