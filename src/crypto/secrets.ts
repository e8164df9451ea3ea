/**
 * Secrets by id: passphrases and keys that options name and never contain. Their bytes leave this store only towards
 * the cryptography; no error, no answer and no log shows them. Source: QAPI SecretProperties; words of QEMU 7.2.
 */
import { CommandError } from "../base/errors.ts";

/** The secrets of one engine. */
export class Secrets {
  readonly #bytes = new Map<string, Uint8Array>();

  /** Keeps a copy of `bytes` under `id`, instead of what was there. */
  set(id: string, bytes: Uint8Array): void {
    this.#bytes.set(id, bytes.slice());
  }

  /** Forgets a secret; images that it has opened stay open. */
  delete(id: string): void {
    this.#bytes.get(id)?.fill(0);
    this.#bytes.delete(id);
  }

  /** The bytes of a secret; not to be changed. Throws CommandError `No secret with id 'x'`. */
  lookup(id: string): Uint8Array {
    const bytes = this.#bytes.get(id);
    if (!bytes) throw new CommandError(`No secret with id '${id}'`);
    return bytes;
  }

  /** The bytes of a secret that must be text, as passphrases are. Throws CommandError. */
  lookupText(id: string): Uint8Array {
    const bytes = this.lookup(id);
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      throw new CommandError(`Data from secret ${id} is not valid UTF-8`);
    }
    return bytes;
  }
}
