/**
 * A disk on an NBD server: the driver's hooks over a link. What the export can is what its flags say; its length never changes.
 * Source: behaviour of QEMU 7.2's client.
 */
import { BlockError, blockError } from "../../../base/errors.ts";
import { MiB, SECTOR_SIZE, limits } from "../../../base/limits.ts";
import { alignDown, alignUp } from "../../../base/ranges.ts";
import { settleAll } from "../../../base/signals.ts";
import {
  type BlockDriver,
  type BlockLimits,
  type BlockStatus,
  type NodeView,
  Req,
  type RequestFlags,
  type TruncateOptions,
  type Unanswered,
} from "../../../block/model/contract.ts";
import { allocation, command, commandFlag, exportFlag } from "../../../wire/nbd/constants.ts";
import type { StatusExtent } from "../../../wire/nbd/transmission.ts";
import type { Link } from "./link.ts";
import type { NbdRequest } from "./session.ts";

/** Bytes of one request without data, at most: below 2^31, as QEMU. */
const MAX_PLAIN_BYTES = 2 ** 31 - 1;
/**
 * Data goes in requests of this length, but where one is longer than all before: servers take memory for each, and glibc's
 * malloc has the kernel clear it anew unless a longer piece was given back before.
 */
const PART_BYTES = MiB;

/** An open export. */
export class NbdDriver implements BlockDriver {
  readonly #node: NodeView;
  readonly #link: Link;
  readonly #size: number;
  readonly #flags: number;
  readonly #minimum: number;
  readonly #partBytes: number;
  /** The longest request with data so far, bytes. */
  #longest = 0;

  constructor(node: NodeView, link: Link) {
    this.#node = node;
    this.#link = link;
    const { size, flags, blockSizes } = link.agreement;
    this.#size = size;
    this.#flags = flags;
    this.#minimum = blockSizes?.minimum ?? (size % SECTOR_SIZE === 0 ? SECTOR_SIZE : 1);
    this.#partBytes = Math.max(PART_BYTES, blockSizes?.preferred ?? 0);
  }

  /** In whole sectors, as QEMU has it; what the last one lacks reads as zeroes. */
  length(): number {
    return alignUp(this.#size, SECTOR_SIZE);
  }

  limits(): Partial<BlockLimits> {
    const { blockSizes } = this.#link.agreement;
    const most = Math.min(limits.nbdMaxPayloadBytes, blockSizes?.maximum ?? limits.nbdMaxPayloadBytes);
    const maxTransfer = Math.max(this.#minimum, alignDown(most, this.#minimum));
    const optTransfer = Math.min(blockSizes?.preferred ?? 0, maxTransfer);
    const plain = alignDown(MAX_PLAIN_BYTES, this.#minimum);
    return {
      requestAlignment: this.#minimum,
      maxTransfer,
      optTransfer,
      maxPwriteZeroes: maxTransfer,
      maxPdiscard: plain,
    };
  }

  async pread(offset: number, buffer: Uint8Array): Promise<void> {
    const within = Math.max(0, Math.min(buffer.byteLength, this.#size - offset));
    if (within < buffer.byteLength) buffer.fill(0, within);
    if (within === 0) return;
    const into = within === buffer.byteLength ? buffer : buffer.subarray(0, within);
    await this.#transfer("pread", offset, into);
  }

  async pwrite(offset: number, buffer: Uint8Array): Promise<void> {
    await this.#transfer("pwrite", offset, buffer);
  }

  /** Reads or writes, in one request or several; all have ended when it resolves, or rejects. */
  async #transfer(op: "pread" | "pwrite", offset: number, data: Uint8Array): Promise<void> {
    const ask = (at: number, part: Uint8Array): Promise<unknown> => {
      const what =
        op === "pread" ? { type: command.read, buffer: part } : { type: command.write, payload: part };
      return this.#request(op, { ...what, flags: 0, offset: offset + at, length: part.byteLength });
    };
    const bytes = data.byteLength;
    const isLongest = bytes > this.#longest;
    if (isLongest) this.#longest = bytes;
    if (isLongest || bytes <= this.#partBytes) return void (await ask(0, data));
    const parts: Promise<unknown>[] = [];
    for (let at = 0; at < bytes; at += this.#partBytes)
      parts.push(ask(at, data.subarray(at, at + this.#partBytes)));
    await settleAll(parts);
  }

  async pwriteZeroes(offset: number, bytes: number, wanted: RequestFlags): Promise<void> {
    if (!this.#has(exportFlag.sendWriteZeroes)) throw blockError("ENOTSUP", "pwriteZeroes");
    let flags = wanted & Req.mayUnmap ? 0 : commandFlag.noHole;
    if (wanted & Req.noFallback) {
      if (!this.#has(exportFlag.sendFastZero)) throw blockError("ENOTSUP", "pwriteZeroes");
      flags |= commandFlag.fastZero;
    }
    await this.#request("pwriteZeroes", { type: command.writeZeroes, flags, offset, length: bytes });
  }

  async pdiscard(offset: number, bytes: number): Promise<void> {
    const length = Math.min(bytes, this.#size - offset);
    if (!this.#has(exportFlag.sendTrim) || length <= 0) return;
    await this.#request("pdiscard", { type: command.trim, flags: 0, offset, length });
  }

  async flush(): Promise<void> {
    if (!this.#has(exportFlag.sendFlush)) return;
    await this.#request("flush", { type: command.flush, flags: 0, offset: 0, length: 0 });
  }

  async blockStatus(offset: number, bytes: number): Promise<BlockStatus> {
    const map = { node: this.#node, offset };
    if (offset >= this.#size) return { bytes, data: false, zero: true, allocated: true, map };
    const within = Math.min(bytes, this.#size - offset);
    if (this.#link.agreement.contextId === undefined)
      return { bytes: within, data: true, zero: false, allocated: true, map };
    const length = Math.min(within, alignDown(MAX_PLAIN_BYTES, this.#minimum));
    const request = { type: command.blockStatus, flags: commandFlag.reqOne, offset, length };
    const { extent } = await this.#request("blockStatus", request);
    return this.#status(offset, { asked: length, extent: extent! });
  }

  #status(offset: number, { asked, extent }: { asked: number; extent: StatusExtent }): BlockStatus {
    const { flags } = extent;
    const map = { node: this.#node, offset };
    const bytes = Math.min(asked, extent.length);
    const whole = offset + bytes === this.#size ? bytes : alignDown(bytes, this.#minimum);
    // Less than the least block: of that nothing is said.
    if (whole === 0) return { bytes: this.#minimum, data: true, zero: false, allocated: true, map };
    const data = (flags & allocation.hole) === 0;
    const zero = (flags & allocation.zero) !== 0;
    return { bytes: whole, data, zero, allocated: data || zero, map };
  }

  truncate(size: number, { exact }: TruncateOptions): Promise<void> {
    if (exact && size !== this.length()) return Promise.reject(refused("Cannot resize NBD nodes"));
    if (size > this.length()) return Promise.reject(refused("Cannot grow NBD nodes"));
    return Promise.resolve();
  }

  setReadOnly(readOnly: boolean): Promise<void> {
    if (readOnly || !this.#has(exportFlag.readOnly)) return Promise.resolve();
    const message = "Can't reopen read-only NBD mount as read/write";
    return Promise.reject(blockError("EACCES", "reopen", message));
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  giveUp(unanswered: Unanswered): void {
    this.#link.giveUp(unanswered);
  }

  #has(flag: number): boolean {
    return (this.#flags & flag) !== 0;
  }

  async #request(op: string, request: NbdRequest): ReturnType<Link["request"]> {
    try {
      return await this.#link.request(request);
    } catch (error) {
      if (!(error instanceof BlockError)) throw error;
      const { code, message, cause } = error;
      const place = { node: this.#node.name, offset: request.offset, bytes: request.length };
      throw new BlockError({ code, op, message, cause, ...place });
    }
  }
}

function refused(message: string): BlockError {
  return blockError("ENOTSUP", "truncate", message);
}
