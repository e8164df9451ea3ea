/** Digests as registries write them. */

/** `sha256:…` of a content. */
export async function hexDigest(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return inHex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}

/** `sha256:…` of a hash. */
export function inHex(hash: Uint8Array): string {
  return `sha256:${Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
