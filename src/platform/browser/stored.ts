/**
 * What lies in the browser's stores: the directories of the private file system that hold a disk of the driver opfs, and the databases of
 * the driver indexeddb. A module that is loaded when somebody asks. Nothing is locked, so disks that are open are seen too, and one that is
 * made or removed meanwhile may be missing. Source: WHATWG File System, W3C Indexed Database 3.0.
 */
import type { StoredDisk } from "../../base/host.ts";
import { PREFIX, countBlocks } from "./databases.ts";
import { mapped } from "./exceptions.ts";

const BLOCK_BYTES = 65_536;
/** What every directory of a disk has (drivers/protocol/opfs/store.ts); others of the page's own are left alone. */
const DISK_FILES = ["map", "data"];

type Children = AsyncIterable<[string, FileSystemHandle]>;

/** Adds the disks of a directory, and of those within it; `path` ends with a slash, or is empty. */
async function addDisks(
  directory: FileSystemDirectoryHandle,
  path: string,
  found: StoredDisk[],
): Promise<void> {
  const sizes = new Map<string, number>();
  for await (const [name, handle] of directory as unknown as Children)
    if (handle.kind === "directory")
      await addDisks(handle as FileSystemDirectoryHandle, `${path}${name}/`, found);
    else if (DISK_FILES.includes(name))
      sizes.set(name, (await (handle as FileSystemFileHandle).getFile()).size);
  if (path === "" || sizes.size < DISK_FILES.length) return;
  const storedBytes = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  found.push({ driver: "opfs", filename: path.slice(0, -1), storedBytes });
}

async function ofPrivateStorage(): Promise<StoredDisk[]> {
  const found: StoredDisk[] = [];
  if (typeof FileSystemFileHandle === "undefined") return found;
  try {
    await addDisks(await navigator.storage.getDirectory(), "", found);
  } catch (error) {
    const failure = mapped("list", error);
    // A private window has no private file system, and so no disk in it.
    if (failure.code !== "ENOTSUP") throw failure;
  }
  return found;
}

async function ofDatabases(): Promise<StoredDisk[]> {
  if (typeof indexedDB === "undefined") return [];
  const names = (await indexedDB.databases()).flatMap(({ name }) =>
    name?.startsWith(PREFIX) ? name.slice(PREFIX.length) : [],
  );
  const found: StoredDisk[] = [];
  for (const filename of names) {
    const blocks = await countBlocks(filename);
    if (blocks !== undefined)
      found.push({ driver: "indexeddb", filename, storedBytes: blocks * BLOCK_BYTES });
  }
  return found;
}

/** The disks of both stores, in the order of their names. */
export async function storedDisks(): Promise<StoredDisk[]> {
  const found = [...(await ofPrivateStorage()), ...(await ofDatabases())];
  return found.toSorted((a, b) => (a.filename < b.filename ? -1 : a.filename > b.filename ? 1 : 0));
}
