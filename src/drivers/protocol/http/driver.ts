/**
 * A disk on an HTTP server: the driver's hooks over clusters. Read-only, of fixed length, all of it data.
 */
import { BlockError, blockError, errnoOf, messageOf } from "../../../base/errors.ts";
import { SECTOR_SIZE } from "../../../base/limits.ts";
import { alignUp } from "../../../base/ranges.ts";
import {
  type BlockDriver,
  type BlockStatus,
  type ContentVersion,
  type FormatSpecific,
  Req,
  type RequestFlags,
  type Unanswered,
  type VersionedStorage,
} from "../../../block/model/contract.ts";
import type { NodeView } from "../../../block/model/contract.ts";
import type { Manifest } from "../../../wire/manifest.ts";
import type { Attempts } from "./attempts.ts";
import type { Clusters } from "./clusters.ts";
import type { Source } from "./range-source.ts";
import { changedSource } from "./validate.ts";

/** What an open remote disk consists of. */
interface HttpDriverInit {
  node: NodeView;
  clusters: Clusters;
  attempts: Attempts;
  source: Source;
  url: string;
  manifest: Manifest | undefined;
}

/** An open remote disk. */
export class HttpDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #clusters: Clusters;
  readonly #attempts: Attempts;
  readonly #source: Source;
  readonly #size: number;
  readonly #url: string;
  readonly #manifest: string | undefined;
  readonly versions: VersionedStorage;

  constructor(init: HttpDriverInit) {
    this.#node = init.node;
    this.#clusters = init.clusters;
    this.#attempts = init.attempts;
    this.#source = init.source;
    this.#size = init.source.size;
    this.#url = init.url;
    this.#manifest = init.manifest?.hash;
    this.versions = { version: () => this.#version(), demand: (version) => this.#demand(version) };
  }

  /** In whole sectors, as QEMU has it; what the last one lacks reads as zeroes. */
  length(): number {
    return alignUp(this.#size, SECTOR_SIZE);
  }

  async pread(offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
    const within = Math.max(0, Math.min(buffer.byteLength, this.#size - offset));
    if (within < buffer.byteLength) buffer.fill(0, within);
    try {
      await this.#clusters.read(offset, buffer.subarray(0, within), (flags & Req.background) !== 0);
    } catch (cause) {
      const details = { code: errnoOf(cause), op: "pread", message: messageOf(cause), cause };
      throw new BlockError({ ...details, node: this.#node.name, offset, bytes: buffer.byteLength });
    }
  }

  blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    return Promise.resolve({
      bytes,
      data: true,
      zero: false,
      allocated: true,
      map: { node: this.#node, offset },
    });
  }

  /** Which version it is, as far as the server has told. */
  formatSpecific(): FormatSpecific {
    return { type: "http", data: { ...this.#source.facts } };
  }

  #version(): ContentVersion {
    const { changed: _, ...version } = this.#source.facts;
    return { url: this.#url.replace(/\?.*/, ""), size: this.#size, ...version, manifest: this.#manifest };
  }

  #demand(version: ContentVersion): void {
    const both = this.#manifest !== undefined && version.manifest !== undefined;
    if (!both) this.#source.demand(version);
    else if (version.manifest !== this.#manifest)
      throw changedSource(this.#url, "its manifest is another one");
  }

  async setReadOnly(readOnly: boolean): Promise<void> {
    if (!readOnly) throw readOnlyError();
  }

  close(): Promise<void> {
    this.#attempts.close();
    return Promise.resolve();
  }

  giveUp(unanswered: Unanswered): void {
    this.#attempts.giveUp(unanswered);
  }
}

/** The refusal of a writable node, in QEMU's words. */
export function readOnlyError(): BlockError {
  return blockError("EACCES", "open", "curl driver does not support writes");
}
