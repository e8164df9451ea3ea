/**
 * What a server asks of a request before it carries it out, and how it replies, simply or in chunks. No I/O.
 * Source: doc/proto.md; order and words of the refusals: behaviour of qemu-nbd 7.2.
 */
import type { Errno } from "../../base/errno.ts";
import { limits } from "../../base/limits.ts";
import { command, commandFlag, commandWord } from "./constants.ts";
import { encodeError, encodeSimpleReply, type NbdRequest } from "./transmission.ts";

/** What a request is measured by. */
export interface RequestLimits {
  /** Bytes of the export. */
  readonly size: number;
  readonly writable: boolean;
  readonly structured: boolean;
  /** Whether the client chose contexts. */
  readonly hasContexts: boolean;
}

/** Why a request is not carried out. */
export interface Refusal {
  readonly code: Errno;
  readonly text: string;
}

/** Whether a request's data follows it. */
export function hasPayload(request: NbdRequest): boolean {
  return request.type === command.write;
}

function validFlags({ type }: NbdRequest, structured: boolean): number {
  const more: Partial<Record<number, number>> = {
    [command.read]: structured ? commandFlag.df : 0,
    [command.writeZeroes]: commandFlag.noHole | commandFlag.fastZero,
    [command.blockStatus]: commandFlag.reqOne,
  };
  return commandFlag.fua | (more[type] ?? 0);
}

/** Whether the command asks for bytes in memory here. */
function movesData(type: number): boolean {
  return type === command.read || type === command.write || type === command.cache;
}

/** QEMU gives all refusals one number, where the protocol would have EPERM and ENOSPC for some; clients know it so. */
function refuse(text: string): Refusal {
  return { code: "EINVAL", text };
}

/** Whether and why a request is refused; a write's data must be passed over then. A disconnect is never refused. */
export function checkNbdRequest(request: NbdRequest, given: RequestLimits): Refusal | undefined {
  const { type, offset, length, flags } = request;
  if (movesData(type) && length > limits.nbdMaxPayloadBytes)
    return refuse(`len (${length} ) is larger than max len (${limits.nbdMaxPayloadBytes})`);
  const isWrite = type === command.write || type === command.writeZeroes;
  if (!given.writable && (isWrite || type === command.trim)) return refuse("Export is read-only");
  if (offset > given.size || length > given.size - offset)
    return refuse(`operation past EOF; From: ${offset}, Len: ${length}, Size: ${given.size}`);
  if ((flags & ~validFlags(request, given.structured)) !== 0)
    return refuse(`unsupported flags for command ${commandWord(type)} (got 0x${flags.toString(16)})`);
  if (type === command.blockStatus && length === 0) return refuse("need non-zero length");
  if (type === command.blockStatus && !given.hasContexts) return refuse("CMD_BLOCK_STATUS not negotiated");
  if (type > command.blockStatus) return refuse(`invalid request type (${type}) received`);
  return undefined;
}

/** The reply to a request that failed: with words, for a client of structured replies. */
export function encodeFailure({ cookie }: NbdRequest, failure: Refusal, structured: boolean): Uint8Array {
  return structured ? encodeError({ cookie, done: true }, failure) : encodeSimpleReply(cookie, failure.code);
}
