/**
 * Streams as files for the user.
 */
import { h } from "./dom.ts";

/** The stream as a Blob, which browsers keep on disk when it is large. The stream's own error is kept. */
async function blobOf(stream: ReadableStream<Uint8Array>): Promise<Blob> {
  const parts: Blob[] = [];
  const reader = stream.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(new Blob([next.value as Uint8Array<ArrayBuffer>]));
  }
  return new Blob(parts);
}

/** Gives the stream to the user as a file; its length, bytes. */
export async function save(stream: ReadableStream<Uint8Array>, name: string): Promise<number> {
  const blob = await blobOf(stream);
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return blob.size;
}
