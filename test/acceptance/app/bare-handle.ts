/** A file of OPFS without anything of ours above it, which what we have is held against. */

/** What TypeScript's library for pages lacks. */
interface Handle {
  read(buffer: Uint8Array, options: { at: number }): number;
  write(buffer: Uint8Array, options: { at: number }): number;
}

/** A file of this worker's own, of so many whole MiB. */
export async function bareHandle(bytes: number): Promise<Handle> {
  const root = await navigator.storage.getDirectory();
  const file = (await root.getFileHandle("bare", { create: true })) as unknown as {
    createSyncAccessHandle(): Promise<Handle>;
  };
  const handle = await file.createSyncAccessHandle();
  const piece = new Uint8Array(1 << 20).fill(1);
  for (let at = 0; at < bytes; at += piece.byteLength) handle.write(piece, { at });
  return handle;
}
