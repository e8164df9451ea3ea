/**
 * One export as NBD shows it: name, size, flags, sizes of requests, contexts; and who uses it.
 *
 * Invariant: the bitmaps that it shows are busy as long as it lives, so nobody removes or clears them.
 * Source: behaviour and words of QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import { alignDown } from "../../base/ranges.ts";
import { limits, SECTOR_SIZE } from "../../base/limits.ts";
import { settleAll } from "../../base/signals.ts";
import type { BlockBackend } from "../../block/graph/backend.ts";
import { layers } from "../../block/model/chain.ts";
import { type DirtyBitmap, findDirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { ExportService } from "../../export/exports.ts";
import { exportFlag } from "../../wire/nbd/constants.ts";
import type { ExportInfo } from "../../wire/nbd/handshake.ts";
import type { BlockSizes } from "../../wire/nbd/options.ts";
import type { OfferedExport } from "../../wire/nbd/server-handshake.ts";
import { allocationContext, depthContext, dirtyContext, type ExportContext } from "./contexts.ts";

/** A bitmap by its name, found down the chain, or of a node. */
export type BitmapChoice = string | { readonly node: string; readonly name: string };

/** What NBD is told of an export. */
export interface NbdExportOptions {
  readonly name: string;
  readonly description?: string | undefined;
  readonly writable?: boolean | undefined;
  readonly bitmaps?: readonly BitmapChoice[] | undefined;
  readonly allocationDepth?: boolean | undefined;
}

/** A client that uses an export. */
export interface ExportClient {
  /** Ends it: it takes no more requests; resolves when those under way are over. `abrupt`: their replies need not arrive. */
  end(how: "abrupt" | "gently"): Promise<void>;
}

/** What an export needs of its server. */
export interface ExportHome {
  /** Several clients at a time may use it. */
  readonly sharesClients: boolean;
  /** It is offered no longer. */
  removed(one: NbdExport): void;
}

/** What an export prefers, bytes, where its node prefers nothing larger. */
const PREFERRED_BYTES = 4096;

/** One export of a server. */
export class NbdExport implements OfferedExport, ExportService {
  readonly name: string;
  readonly description: string | undefined;
  readonly writable: boolean;
  readonly backend: BlockBackend;
  readonly statusContexts: readonly ExportContext[];
  readonly clients = new Set<ExportClient>();
  readonly #home: ExportHome;
  readonly #bitmaps: DirtyBitmap[];

  /** Throws CommandError for names that are too long and for bitmaps that can't be shown. */
  constructor(backend: BlockBackend, options: NbdExportOptions, home: ExportHome) {
    checkLength(`export name '${options.name}'`, options.name);
    checkLength(`description '${options.description ?? ""}'`, options.description ?? "");
    this.backend = backend;
    this.name = options.name;
    this.description = options.description;
    this.writable = options.writable ?? false;
    this.#home = home;
    const chosen = (options.bitmaps ?? []).map((choice) => this.#bitmap(choice));
    this.statusContexts = [
      allocationContext(backend),
      ...(options.allocationDepth ? [depthContext(backend)] : []),
      ...chosen.map((bitmap) => dirtyContext(bitmap.name ?? "", bitmap)),
    ];
    this.#bitmaps = chosen;
    for (const bitmap of chosen) bitmap.busy = true;
  }

  get users(): number {
    return this.clients.size;
  }

  /** Bytes, in whole sectors. */
  get size(): number {
    return alignDown(this.backend.length, SECTOR_SIZE);
  }

  get contexts(): string[] {
    return this.statusContexts.map(({ name }) => name);
  }

  get blockSizes(): BlockSizes {
    const { requestAlignment, maxTransfer } = this.#node().limits;
    const most = maxTransfer === 0 ? limits.nbdMaxPayloadBytes : maxTransfer;
    return {
      minimum: requestAlignment,
      preferred: Math.max(PREFERRED_BYTES, requestAlignment),
      maximum: Math.min(limits.nbdMaxPayloadBytes, most),
    };
  }

  info(): ExportInfo {
    const changes = exportFlag.sendTrim | exportFlag.sendWriteZeroes | exportFlag.sendFastZero;
    const flags =
      exportFlag.hasFlags |
      exportFlag.sendFlush |
      exportFlag.sendFua |
      exportFlag.sendCache |
      (this.#home.sharesClients ? exportFlag.canMultiConn : 0) |
      (this.writable ? changes : exportFlag.readOnly);
    return { size: this.size, flags };
  }

  async end(): Promise<void> {
    this.#home.removed(this);
    try {
      await settleAll([...this.clients].map((client) => client.end("abrupt")));
    } finally {
      // Once: somebody else may use them afterwards.
      for (const bitmap of this.#bitmaps.splice(0)) bitmap.busy = false;
    }
  }

  #node(): BlockNode {
    return this.backend.node!;
  }

  #bitmap(choice: BitmapChoice): DirtyBitmap {
    const { name, nodes } =
      typeof choice === "string"
        ? { name: choice, nodes: layers(this.#node()) }
        : { name: choice.name, nodes: [this.backend.graph.lookup(choice.node)] };
    for (const node of nodes) {
      const found = findDirtyBitmap(node, name);
      if (found) return this.#checked(found, node);
    }
    throw new CommandError(`Bitmap '${name}' is not found`, { code: "ENOENT" });
  }

  #checked(bitmap: DirtyBitmap, node: BlockNode): DirtyBitmap {
    bitmap.check({ readOnly: true });
    if (!this.writable && !node.readOnly && bitmap.enabled)
      throw new CommandError(`Enabled bitmap '${bitmap.name}' incompatible with readonly export`);
    return bitmap;
  }
}

function checkLength(what: string, text: string): void {
  if (new TextEncoder().encode(text).byteLength > limits.nbdMaxStringBytes)
    throw new CommandError(`${what} too long`);
}
