/**
 * The handshake before and around the options: greeting, the client's flags, the headers of options and of their replies, and
 * the answer to an export's name, which has no header.
 *
 * Decoders take a whole part of fixed length and throw (EINVAL) for a wrong magic: after that nothing more can be understood.
 * Source: doc/proto.md, "Fixed newstyle negotiation".
 */
import { Fields, message } from "./bytes.ts";
import {
  EXPORT_NAME_PADDING,
  INIT_MAGIC,
  OLDSTYLE_MAGIC,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
} from "./constants.ts";
import { protocolError } from "./errors.ts";

/** The first thing that a server says; `flags`: handshakeFlag. */
export function encodeGreeting(flags: number): Uint8Array {
  return message([64, INIT_MAGIC], [64, OPTION_MAGIC], [16, flags]);
}

/** The server's flags out of the 18 bytes of a greeting. */
export function decodeGreeting(bytes: Uint8Array): { flags: number } {
  const fields = new Fields(bytes);
  if (fields.u64() !== INIT_MAGIC) throw protocolError("Bad initial magic received");
  const magic = fields.u64();
  if (magic === OLDSTYLE_MAGIC) throw protocolError("Server does not support export names");
  if (magic !== OPTION_MAGIC) throw protocolError("Bad server magic received");
  return { flags: fields.u16() };
}

/** The client's flags, as 32 bits. */
export function encodeClientFlags(flags: number): Uint8Array {
  return message([32, flags]);
}

/** The client's flags out of 4 bytes. */
export function decodeClientFlags(bytes: Uint8Array): number {
  return new Fields(bytes).u32();
}

/** An option with its payload. */
export function encodeOption(option: number, payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  return message([64, OPTION_MAGIC], [32, option], [32, payload.byteLength], payload);
}

/** Option and length of its payload out of 16 bytes. */
export function decodeOptionHeader(bytes: Uint8Array): { option: number; length: number } {
  const fields = new Fields(bytes);
  if (fields.u64() !== OPTION_MAGIC) throw protocolError("Bad magic received");
  return { option: fields.u32(), length: fields.u32() };
}

/** A reply to an option with its payload; `type`: optionReply. */
export function encodeOptionReply(
  option: number,
  type: number,
  payload: Uint8Array = new Uint8Array(0),
): Uint8Array {
  return message([64, OPTION_REPLY_MAGIC], [32, option], [32, type], [32, payload.byteLength], payload);
}

/** The header of a reply to an option out of 20 bytes. */
export function decodeOptionReplyHeader(bytes: Uint8Array): { option: number; type: number; length: number } {
  const fields = new Fields(bytes);
  if (fields.u64() !== OPTION_REPLY_MAGIC) throw protocolError("Unexpected option reply magic");
  return { option: fields.u32(), type: fields.u32(), length: fields.u32() };
}

/** What an export is to its client. */
export interface ExportInfo {
  /** Bytes. */
  readonly size: number;
  /** exportFlag. */
  readonly flags: number;
}

/** The answer to the option "export name"; `noZeroes`: both sides agreed to leave out the padding. */
export function encodeExportNameReply(info: ExportInfo, noZeroes: boolean): Uint8Array {
  return message([64, info.size], [16, info.flags], new Uint8Array(noZeroes ? 0 : EXPORT_NAME_PADDING));
}

/** The same out of its first 10 bytes; the size may be no safe integer. */
export function decodeExportNameReply(bytes: Uint8Array): ExportInfo {
  const fields = new Fields(bytes);
  return { size: fields.size(), flags: fields.u16() };
}
