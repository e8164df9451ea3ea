/**
 * What options and their replies carry: INFO and GO with the information asked for, LIST's names, information about an export,
 * and metadata contexts.
 *
 * Payloads are whole when they get here. Decoders throw (EINVAL) for one that is too short, too long, or has a string that is too
 * long; the connection can go on, since the payload's end is known. Source: doc/proto.md, "Option types", "Option reply types".
 */
import { limits } from "../../base/limits.ts";
import { Fields, message, utf8 } from "./bytes.ts";
import { info } from "./constants.ts";
import { protocolError } from "./errors.ts";
import type { ExportInfo } from "./handshake.ts";

function stringLength(length: number): number {
  if (length > limits.nbdMaxStringBytes) throw protocolError("A string is too long");
  return length;
}

/** What INFO and GO ask. */
export interface InfoRequest {
  readonly name: string;
  /** Kinds of information (`info`) that the client would like. */
  readonly wanted: readonly number[];
}

/** Payload of INFO and GO. */
export function encodeInfoRequest(request: InfoRequest): Uint8Array {
  const name = utf8(request.name);
  return message(
    [32, name.byteLength],
    name,
    [16, request.wanted.length],
    ...request.wanted.map((kind) => [16, kind] as const),
  );
}

/** The same, read. */
export function decodeInfoRequest(payload: Uint8Array): InfoRequest {
  const fields = new Fields(payload);
  const name = fields.text(stringLength(fields.u32()));
  const count = fields.u16();
  if (fields.left !== count * 2) throw protocolError("The count of requests does not fit the length");
  return { name, wanted: Array.from({ length: count }, () => fields.u16()) };
}

/** One line of a list of exports. */
export interface ListedExport {
  readonly name: string;
  readonly description: string;
}

/** Payload of a reply to LIST. */
export function encodeListed(listed: ListedExport): Uint8Array {
  const name = utf8(listed.name);
  return message([32, name.byteLength], name, utf8(listed.description));
}

/** The same, read. */
export function decodeListed(payload: Uint8Array): ListedExport {
  const fields = new Fields(payload);
  const name = fields.text(stringLength(fields.u32()));
  return { name, description: fields.text(stringLength(fields.left)) };
}

/** Sizes of requests that an export takes, bytes. */
export interface BlockSizes {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximum: number;
}

/** A piece of information about an export; `other`: of a kind that is not known here. */
export type Information =
  | ({ readonly kind: "export" } & ExportInfo)
  | { readonly kind: "name"; readonly text: string }
  | { readonly kind: "description"; readonly text: string }
  | ({ readonly kind: "blockSize" } & BlockSizes)
  | { readonly kind: "other"; readonly type: number };

/** Payload of an information reply. */
export function encodeInformation(piece: Exclude<Information, { kind: "other" }>): Uint8Array {
  const type = [16, info[piece.kind]] as const;
  if (piece.kind === "export") return message(type, [64, piece.size], [16, piece.flags]);
  if (piece.kind === "blockSize")
    return message(type, [32, piece.minimum], [32, piece.preferred], [32, piece.maximum]);
  return message(type, utf8(piece.text));
}

/** The same, read. A size may be no safe integer. */
export function decodeInformation(payload: Uint8Array): Information {
  const fields = new Fields(payload);
  const type = fields.u16();
  if (type === info.name || type === info.description) {
    const kind = type === info.name ? "name" : "description";
    return { kind, text: fields.text(stringLength(fields.left)) };
  }
  if (type === info.export) {
    const piece = { kind: "export" as const, size: fields.size(), flags: fields.u16() };
    fields.end();
    return piece;
  }
  if (type !== info.blockSize) return { kind: "other", type };
  const piece = {
    kind: "blockSize" as const,
    minimum: fields.u32(),
    preferred: fields.u32(),
    maximum: fields.u32(),
  };
  fields.end();
  return piece;
}

/** What LIST_META_CONTEXT and SET_META_CONTEXT ask. */
export interface MetaRequest {
  readonly name: string;
  readonly queries: readonly string[];
}

/** Payload of the two. */
export function encodeMetaRequest(request: MetaRequest): Uint8Array {
  const name = utf8(request.name);
  const queries = request.queries.map(utf8);
  return message(
    [32, name.byteLength],
    name,
    [32, queries.length],
    ...queries.flatMap((query) => [[32, query.byteLength] as const, query]),
  );
}

/** The same, read. Queries that are too long or no text name nothing that exists: they are left out, as QEMU skips them. */
export function decodeMetaRequest(payload: Uint8Array): MetaRequest {
  const fields = new Fields(payload);
  const name = fields.text(stringLength(fields.u32()));
  const count = fields.u32();
  const queries: string[] = [];
  for (let i = 0; i < count; i++) {
    const query = fields.bytes(fields.u32());
    if (query.byteLength > limits.nbdMaxStringBytes) continue;
    queries.push(new TextDecoder().decode(query));
  }
  fields.end();
  return { name, queries };
}

/** A metadata context; `id` names it in block status (0 in a list). */
export interface MetaContext {
  readonly id: number;
  readonly name: string;
}

/** Payload of a reply with a context. */
export function encodeMetaContext(context: MetaContext): Uint8Array {
  return message([32, context.id], utf8(context.name));
}

/** The same, read. */
export function decodeMetaContext(payload: Uint8Array): MetaContext {
  const fields = new Fields(payload);
  return { id: fields.u32(), name: fields.text(stringLength(fields.left)) };
}
