/**
 * What an overlay was made over: the version of its backing file (URL, size, ETag or date, hash of the manifest) in a header
 * extension of ours, as JSON. It is written before the first metadata that depends on that version, and compared when the
 * backing file is attached. Invariant: it counts only beside the backing name with which it was written, so that a link that
 * another program changes ends it. Source: qcow2.txt, "Header extensions"; RFC 9110, section 8.8.
 */
import { decodeName, encodeName } from "../../../../base/names.ts";
import { BlockError, messageOf } from "../../../../base/errors.ts";
import { alignUp } from "../../../../base/ranges.ts";
import type { ContentVersion, NodeView } from "../../../../block/model/contract.ts";
import { fitsFirstCluster, type Header, serializeHeader } from "../disk/header.ts";
import { Extension } from "../disk/header-extensions.ts";
import { writeHeader } from "./header-update.ts";
import type { Image } from "./image.ts";

/** The node in which a node's own content lies, if that is storage with versions. */
function versionedStorage(node: NodeView): NodeView | undefined {
  for (let at: NodeView | undefined = node; at; at = (at.filtered ?? at.file)?.node)
    if (at.driver.versions) return at;
  return undefined;
}

/** What goes into a request's header again: nothing but what an ETag or a date may hold. */
const FIELD = /^[\x20-\x7e\x80-\xff]*$/;

function isField(value: unknown): boolean {
  return value === undefined || (typeof value === "string" && FIELD.test(value));
}

function recordOf({ extensions }: Header): string | undefined {
  const found = extensions.find(({ type }) => type === Extension.madeOver);
  return found && decodeName(found.data);
}

/** The version in the header; undefined where there is none, or none that can be read or is of another backing name. */
export function madeOver(header: Header): ContentVersion | undefined {
  try {
    const { backing, ...version } = JSON.parse(recordOf(header) ?? "") as Record<string, unknown>;
    const { url, size, etag, manifest } = version;
    const isVersion =
      typeof url === "string" &&
      Number.isSafeInteger(size) &&
      [etag, version["last-modified"], manifest].every((value) => isField(value));
    return isVersion && backing === header.backingFile ? (version as unknown as ContentVersion) : undefined;
  } catch {
    return undefined;
  }
}

/** Whether nothing lies behind the L1 table, the last that is made of an empty image. */
function isPlainlyEmpty({ file, header, geometry }: Image): boolean {
  return file.length <= alignUp(header.l1Offset + header.l1Size * 8, geometry.clusterSize);
}

/** Takes it out of the header in memory: the link to the backing file changes. */
export function forgetMadeOver(header: Header): void {
  header.extensions = header.extensions.filter(({ type }) => type !== Extension.madeOver);
}

/** Throws ESTALE where the image was made over another version of `backing`, unless its options accept that. */
export function checkMadeOver(image: Image, backing: NodeView): void {
  const storage = versionedStorage(backing);
  if (!storage) return;
  if (image.options.acceptsChangedBacking) {
    image.madeOverDue = true;
    return;
  }
  const version = madeOver(image.header);
  // What there is already counts as made over what is found first.
  image.madeOverDue = version === undefined && !isPlainlyEmpty(image);
  try {
    if (version) storage.driver.versions?.demand(version);
  } catch (cause) {
    const was = `It was made over another version of its backing file (${version?.url}): ${messageOf(cause)}`;
    const ways = "Make a new image, open the version of then, or accept this one ('changed-backing')";
    const message = `${was}. ${ways}`;
    throw new BlockError({ code: "ESTALE", op: "open", node: image.node.name, message, cause });
  }
}

/** Writes the version of the backing file into the header, if the header lacks it. Under the lock. Errors: those of the file. */
export async function noteMadeOver(image: Image): Promise<void> {
  const { header, node } = image;
  const storage = node.backing && versionedStorage(node.backing.node);
  const version = storage?.driver.versions?.version();
  image.madeOverDue = false;
  if (!version || node.readOnly) return;
  const record = JSON.stringify({ backing: header.backingFile, ...version });
  if (record === recordOf(header)) return;
  const before = { ...header };
  const extensions = header.extensions.filter(({ type }) => type !== Extension.madeOver);
  const own = { type: Extension.madeOver, data: encodeName(record) };
  const after = [...extensions, own];
  // Clusters of 512 bytes have no room for it.
  if (!fitsFirstCluster({ ...header, extensions: after })) return;
  try {
    const end = serializeHeader({ ...header, backingFile: undefined, extensions: after }).bytes.byteLength;
    // The name is not written over before the header leads to its new place.
    if (header.backingOffset > 0 && end > header.backingOffset) await writeHeader(image);
    header.extensions = after;
    await writeHeader(image);
    await image.file.flush();
  } catch (error) {
    const { backingOffset } = header;
    Object.assign(header, before, { backingOffset });
    image.madeOverDue = true;
    throw error;
  }
}
