/**
 * The origin private file system with its synchronous handles, which exist in dedicated workers only. A Web Lock for
 * each directory keeps other tabs out. Source: WHATWG File System, Web Locks.
 */
import { BlockError } from "../../base/errors.ts";
import type { HostPrivateStorage, PrivateDirectory, SyncFile } from "../../base/host.ts";
import { PATIENCE_MS, lock, mapped } from "./exceptions.ts";

const RETRY_MS = 50;

/** What TypeScript's library for pages lacks: these exist in workers. */
export interface SyncAccessHandle {
  read(buffer: BufferSource, options: { at: number }): number;
  write(buffer: BufferSource, options: { at: number }): number;
  flush(): void;
  getSize(): number;
  truncate(size: number): void;
  close(): void;
}
type SyncFileHandle = FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncAccessHandle> };

function guarded<T>(op: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw mapped(op, error);
  }
}

/**
 * A handle with the errors of the Host. After a failed flush every later one fails: the system below tells a failed
 * write-back once and forgets what it lost, so only a file that is opened anew is believed again.
 */
export function syncFile(handle: SyncAccessHandle): SyncFile {
  let lost: BlockError | undefined;
  return {
    // Without guarded(): a guest waits for each read, and a closure more is a tenth of its time.
    read: (buffer, offset) => {
      try {
        return handle.read(buffer as BufferSource, { at: offset });
      } catch (error) {
        throw mapped("pread", error);
      }
    },
    write: (buffer, offset) => guarded("pwrite", () => handle.write(buffer as BufferSource, { at: offset })),
    flush: () => {
      if (lost) throw new BlockError({ code: lost.code, op: "flush", cause: lost });
      try {
        handle.flush();
      } catch (error) {
        throw (lost = mapped("flush", error));
      }
    },
    size: () => guarded("stat", () => handle.getSize()),
    truncate: (size) => guarded("truncate", () => handle.truncate(size)),
    close: () => handle.close(),
  };
}

/** A page that just went may still hold its handle. */
async function openHandle(file: SyncFileHandle): Promise<SyncAccessHandle> {
  for (let waited = 0; ; waited += RETRY_MS) {
    try {
      return await file.createSyncAccessHandle();
    } catch (error) {
      if (waited >= PATIENCE_MS || mapped("open", error).code !== "EAGAIN") throw error;
    }
    await new Promise((resolve) => {
      setTimeout(resolve, RETRY_MS);
    });
  }
}

async function parentOf(
  path: string,
  create: boolean,
): Promise<{ parent: FileSystemDirectoryHandle; name: string }> {
  const names = path.split("/");
  let parent = await navigator.storage.getDirectory();
  for (const name of names.slice(0, -1)) parent = await parent.getDirectoryHandle(name, { create });
  return { parent, name: names.at(-1)! };
}

async function takeDirectory(
  path: string,
  { create = false, replace = false }: { create?: boolean; replace?: boolean },
): Promise<FileSystemDirectoryHandle> {
  const { parent, name } = await parentOf(path, create);
  if (replace) await parent.removeEntry(name, { recursive: true }).catch(() => undefined);
  const directory = await parent.getDirectoryHandle(name, { create });
  if (create && !replace) {
    const { done } = await directory.keys().next();
    if (done !== true) throw new BlockError({ code: "EEXIST", op: "create" });
  }
  return directory;
}

async function openDirectory(
  path: string,
  options: { create?: boolean; replace?: boolean } = {},
): Promise<PrivateDirectory> {
  const unlock = await lock(`opfs:${path}`);
  try {
    const directory = await takeDirectory(path, options);
    return {
      async file(name) {
        try {
          const handle = await directory.getFileHandle(name, { create: true });
          return syncFile(await openHandle(handle as SyncFileHandle));
        } catch (error) {
          throw mapped("open", error);
        }
      },
      close: unlock,
    };
  } catch (error) {
    unlock();
    throw mapped("open", error);
  }
}

async function removeDirectory(path: string): Promise<void> {
  const unlock = await lock(`opfs:${path}`);
  try {
    const { parent, name } = await parentOf(path, false);
    await parent.removeEntry(name, { recursive: true });
  } catch (error) {
    throw mapped("remove", error);
  } finally {
    unlock();
  }
}

/** The private file system, where this page or worker may use it synchronously. */
export function privateStorage(): HostPrivateStorage | undefined {
  const usable =
    typeof FileSystemFileHandle !== "undefined" &&
    "createSyncAccessHandle" in FileSystemFileHandle.prototype &&
    "locks" in navigator;
  return usable ? { open: openDirectory, remove: removeDirectory } : undefined;
}
