/**
 * The numbers of NBD: magics, options, replies, commands, flags, information. Names are ours in camel case, values are the
 * protocol's. Invariant: what stands here is the protocol's alone; nothing depends on a role.
 * Source: doc/proto.md of https://github.com/NetworkBlockDevice/nbd; the words of the look-ups are those that QEMU prints.
 */

/** First eight bytes that a server sends: "NBDMAGIC". */
export const INIT_MAGIC = 0x4e42444d41474943n;
/** Second eight bytes of a newstyle server, and first eight of every option: "IHAVEOPT". */
export const OPTION_MAGIC = 0x49484156454f5054n;
/** Second eight bytes of an oldstyle server. */
export const OLDSTYLE_MAGIC = 0x00420281861253n;
/** First eight bytes of a reply to an option. */
export const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
/** First four bytes of a request. */
export const REQUEST_MAGIC = 0x25609513;
/** First four bytes of a simple reply. */
export const SIMPLE_REPLY_MAGIC = 0x67446698;
/** First four bytes of a chunk of a structured reply. */
export const CHUNK_MAGIC = 0x668e33ef;

/** Bytes of a greeting. */
export const GREETING_BYTES = 18;
/** Bytes of the client's flags. */
export const CLIENT_FLAGS_BYTES = 4;
/** Bytes that precede an option's payload. */
export const OPTION_HEADER_BYTES = 16;
/** Bytes that precede the payload of a reply to an option. */
export const OPTION_REPLY_HEADER_BYTES = 20;
/** Bytes of a request, without a write's data. */
export const REQUEST_BYTES = 28;
/** Bytes of a simple reply, without a read's data. */
export const SIMPLE_REPLY_BYTES = 16;
/** Bytes that precede a chunk's payload. */
export const CHUNK_HEADER_BYTES = 20;
/** Zeroes behind the answer to an export's name, unless both sides said "no zeroes". */
export const EXPORT_NAME_PADDING = 124;

/** Flags of the handshake; server's and client's have the same values. */
export const handshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

/** Options of the client. */
export const option = {
  exportName: 1,
  abort: 2,
  list: 3,
  peekExport: 4,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

const optionWords: Readonly<Record<number, string>> = {
  1: "export name",
  2: "abort",
  3: "list",
  4: "peek export",
  5: "starttls",
  6: "info",
  7: "go",
  8: "structured reply",
  9: "list meta context",
  10: "set meta context",
};

/** What QEMU calls an option. */
export function optionWord(value: number): string {
  return optionWords[value] ?? "<unknown>";
}

/** Kinds of replies to an option; those with the topmost bit are errors. */
export const optionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsupported: 0x80000001,
  errPolicy: 0x80000002,
  errInvalid: 0x80000003,
  errPlatform: 0x80000004,
  errTlsRequired: 0x80000005,
  errUnknown: 0x80000006,
  errShutdown: 0x80000007,
  errBlockSizeRequired: 0x80000008,
  errTooBig: 0x80000009,
} as const;

const replyWords: Readonly<Record<number, string>> = {
  1: "ack",
  2: "server",
  3: "info",
  4: "meta context",
  0x80000001: "unsupported",
  0x80000002: "denied by policy",
  0x80000003: "invalid",
  0x80000004: "platform lacks support",
  0x80000005: "TLS required",
  0x80000006: "export unknown",
  0x80000007: "server shutting down",
  0x80000008: "block size required",
  0x80000009: "option payload too big",
};

/** What QEMU calls a reply. */
export function optionReplyWord(value: number): string {
  return replyWords[value] ?? "<unknown>";
}

/** Whether a reply to an option is an error. */
export function isErrorReply(value: number): boolean {
  return value >= 0x80000000;
}

/** Kinds of information about an export. */
export const info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

/** Flags of an export. */
export const exportFlag = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendFua: 8,
  rotational: 16,
  sendTrim: 32,
  sendWriteZeroes: 64,
  sendDf: 128,
  canMultiConn: 256,
  sendResize: 512,
  sendCache: 1024,
  sendFastZero: 2048,
} as const;

/** Commands. */
export const command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

const commandWords = [
  "read",
  "write",
  "disconnect",
  "flush",
  "trim",
  "cache",
  "write zeroes",
  "block status",
];

/** What QEMU calls a command. */
export function commandWord(value: number): string {
  return commandWords[value] ?? "<unknown>";
}

/** Flags of a command. */
export const commandFlag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const;

/** Kinds of chunks; those with the topmost bit are errors. */
export const chunk = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

const chunkWords: Readonly<Record<number, string>> = {
  0: "none",
  1: "data",
  2: "hole",
  5: "block status",
  0x8001: "generic error",
  0x8002: "error at offset",
};

/** What QEMU calls a chunk. */
export function chunkWord(value: number): string {
  if (chunkWords[value] !== undefined) return chunkWords[value];
  return isErrorChunk(value) ? "<unknown error>" : "<unknown>";
}

/** Whether a chunk is an error. */
export function isErrorChunk(value: number): boolean {
  return (value & 0x8000) !== 0;
}

/** The flag of a chunk that is its reply's last. */
export const CHUNK_DONE = 1;

/** What `base:allocation` says of an extent. */
export const allocation = { hole: 1, zero: 2 } as const;
/** What `qemu:dirty-bitmap:` says of an extent. */
export const DIRTY = 1;
/** What `qemu:allocation-depth` says: 0 not allocated, 1 in the top layer, 2 below it. */
export const depthState = { unallocated: 0, local: 1, backing: 2 } as const;
