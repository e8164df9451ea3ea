/**
 * The Host: everything that waits, draws a random number, reads a clock or touches the outside goes through this interface.
 * platform/node and platform/browser implement it; test/sim implements it in virtual time, so that one seed replays one run exactly.
 */
import type { Answer } from "./answer.ts";
import type { ByteRange, FileStreams, FileZeroes } from "./ranges.ts";
import type { HostReceiver } from "./receiver.ts";

export type { HostReceiver } from "./receiver.ts";

/** Time. The monotonic clock only ever goes forward within one run; the wall clock is the system's, which may be corrected. */
export interface Clock {
  /** Monotonic milliseconds (fractions allowed) since some start. */
  nowMs(): number;
  /** Wall-clock microseconds since 1970, for event timestamps and dates in images; never for a delay. */
  wallMicroseconds(): number;
  /** Calls `callback` once after `delayMs` (>= 0); the returned function cancels it. Where the platform knows such a thing, a timer that waits keeps the process alive. */
  timer(delayMs: number, callback: () => void): () => void;
  /** Lets other tasks (I/O completions, timers) run before it resolves. */
  turn(): Promise<void>;
}

/** Randomness, for names and jitter; not for cryptography. */
export interface Random {
  /** An integer 0 <= n < limit, limit <= 2^32. */
  below(limit: number): number;
}

/** How a file is opened. */
export interface FileOpenOptions {
  /** Opens for writing too. */
  write: boolean;
  /** Bypasses the page cache where the platform can (O_DIRECT); raises `alignment`. */
  direct?: boolean;
}

/** The permissions that an image file is used with (as block/permissions.ts; bits 1 consistent-read, 2 write, 4 write-unchanged, 8 resize). */
export interface FileLockRequest {
  /** Bits that this user needs. */
  perm: number;
  /** Bits that this user lets others have. */
  shared: number;
}

/** At least one byte of a file from the offset asked for on, data or a hole that reads as zeroes. */
export interface FileExtent {
  data: boolean;
  bytes: number;
}

/** A range of a file; or what `streams` in it give: `bytes`, and `offset` is 0. */
export type FileRange = ByteRange & { readonly file: HostFile; readonly streams?: FileStreams | undefined };

/** A range of another file for the bytes of this one from `offset` on. Of a list of them the only one, if it is made of streams. */
export type FilePart = { readonly offset: number; readonly source: FileRange };

/** An open file. Errors are BlockErrors with the platform's errno. Reads and writes may be in flight together. */
export interface HostFile {
  /** Buffers, offsets and lengths must be multiples of this many bytes (1 for buffered files). */
  readonly alignment: number;
  /** Whether `lock` keeps other users out; absent: no. */
  readonly canLock?: boolean;
  /** Fills `buffer` from `offset`; returns the bytes read, fewer only at the end of the file. May answer at once, and throw. */
  read(buffer: Uint8Array, offset: number): Answer<number>;
  /** Writes all of `buffer` at `offset`, extending the file as needed. May answer at once, and throw. */
  write(buffer: Uint8Array, offset: number): Answer<void>;
  /**
   * Copies ranges of other files of this host, none over another, on more threads; resolves with the bytes copied of each from its
   * start. Fewer where `zeroes` says so or anything fails, which a read and a write will tell. Undefined: not to be had, or not now.
   */
  copyFrom?(parts: readonly FilePart[], zeroes: FileZeroes): Promise<readonly number[]> | undefined;
  /** Compares with ranges of other files so: resolves with the bytes of each that are the same, or fewer. */
  sameAs?(parts: readonly FilePart[]): Promise<readonly number[]> | undefined;
  /**
   * Makes all completed writes durable (fdatasync). Once it has failed it fails for as long as the file is open, where the
   * platform forgets what it could not write: a later success would be a lie.
   */
  flush(): Promise<void>;
  /**
   * After a failed flush: opens the file anew, writes what came since the last good flush again as far as the platform still
   * has it, and flushes. False: no flush had failed. Rejects if it fails again. Absent: flushes that fail are not remembered.
   */
  recover?(): Promise<boolean>;
  /** The length in bytes. */
  size(): Promise<number>;
  /** What is open, whatever its name leads to by now; absent: ask HostFiles.info(). */
  info?(): Promise<FileInfo>;
  /** Bytes that the file takes on disk, if the platform knows. */
  allocatedBytes(): Promise<number | undefined>;
  /** Sets the length. `preallocation`: off = sparse; falloc = blocks reserved; full = zeroes written. */
  truncate(size: number, preallocation?: "off" | "falloc" | "full"): Promise<void>;
  /** Frees the blocks of the range, which then reads as zeroes; ENOTSUP where the platform can't. */
  punchHole(offset: number, bytes: number): Promise<void>;
  /** Makes the range, also beyond the end, read as zeroes in reserved blocks; absent or ENOTSUP where the platform can't. */
  zeroRange?(offset: number, bytes: number): Promise<void>;
  /** What lies at `offset`; undefined where the platform can't tell. Beyond the end: undefined. May answer at once, and throw. */
  extentAt(offset: number): Answer<FileExtent | undefined>;
  /** Takes or changes the image locks; EAGAIN names a conflict. Does nothing where the platform has none. */
  lock(request: FileLockRequest): Promise<void>;
  /** Switches between read-only and read-write without losing the locks. */
  setWritable(write: boolean): Promise<void>;
  /** Closes; an error of the last write-back is reported here. */
  close(): Promise<void>;
}

/** What a path names. */
export interface FileInfo {
  kind: "file" | "directory" | "block-device" | "character-device" | "other";
  size: number;
  /** The same for two names of one file: device and inode; where there are none, the canonical path and the size. */
  identity: string;
  /** Another one whenever the content, or what is known of the file, was changed: to be compared only. Absent: nobody can tell. */
  version?: string;
  /** Whether the path itself is a symbolic link; told where that was asked. */
  symlink?: boolean;
}

/** A file after its creation. */
export interface CreatedFile {
  /** It was not there before. */
  made: boolean;
  /** See FileInfo. */
  identity: string;
}

/** A file that is to be made. */
export interface NewFileOptions {
  /** Bytes. */
  readonly size: number;
  readonly preallocation?: "off" | "falloc" | "full";
  /** It must not be there. */
  readonly exclusive?: boolean;
  /** Bytes that will be written into it. */
  readonly neededBytes?: number | undefined;
}

/** A file that is being made beside the one whose place it takes. It is published or discarded, once. */
export interface FileDraft {
  /** The new file, empty at first, with the other's owner and mode. */
  readonly path: string;
  /** It takes the other's place, once it is durable if that is asked for. EBUSY where the name means another file by now. */
  publish(options: { durable: boolean }): Promise<void>;
  /** Removes it, and leaves what was there. */
  discard(): Promise<void>;
}

/** The files of a platform. Paths are the platform's own. */
export interface HostFiles {
  /** Reads and writes of buffered files are done in the caller's turn: more than one under way gains nothing. Absent: no. */
  readonly inTurn?: boolean;
  /** Of disks of so many bytes HostFile.copyFrom() is worth its beginning; absent: of none. */
  readonly copyLeastBytes?: number;
  /** HostFile.copyFrom() of so many bytes will be asked for soon: what it needs may begin. */
  expectCopies?(): void;
  open(path: string, options: FileOpenOptions): Promise<HostFile>;
  /**
   * Creates an empty file of `size` bytes; an existing one is truncated to 0 first unless `exclusive`. EAGAIN and EBUSY for one
   * that is in use, and ENOSPC where there plainly is no room for `neededBytes` (default: what is preallocated) once it is
   * truncated: then it stays as it is.
   */
  create(path: string, options: NewFileOptions): Promise<CreatedFile>;
  /**
   * Begins a file that takes the place of the one to which `path` leads, which is locked as for its creation meanwhile (EAGAIN,
   * EBUSY). Undefined where nothing would be lost by writing in place, or where only that does: no file, an empty one, no regular
   * one, one of several names, a directory or an owner that is not ours. Absent: no platform's files can be replaced.
   */
  draft?(path: string): Promise<FileDraft | undefined>;
  /** Of what the path leads to. `link`: also whether it is a symbolic link itself. */
  info(path: string, options?: { link?: boolean }): Promise<FileInfo>;
  /** The path without symbolic links and dots. */
  realPath(path: string): Promise<string>;
  /** Removes a file. `only`: if it still is the one of that identity, and this process does not have it open; else EBUSY. */
  remove(path: string, only?: { identity: string }): Promise<void>;
  /** Resolves `path` against the directory of the file `base`; absolute paths stay. */
  resolve(base: string, path: string): string;
}

/** What a side of a TLS connection shows of itself, and what it wants to see of the other. */
export type TlsCredentials =
  | {
      readonly kind: "x509";
      /** PEM. Without an authority the platform's own ones are trusted. */
      readonly authority?: Uint8Array;
      readonly certificate?: Uint8Array;
      readonly key?: Uint8Array;
      readonly passphrase?: string;
      /** Whether the peer must show a certificate that is good. */
      readonly verifyPeer: boolean;
    }
  /** Keys by user; a client has one. */
  | { readonly kind: "psk"; readonly keys: ReadonlyMap<string, Uint8Array> }
  | { readonly kind: "anon" };

/** How TLS begins on a connection. */
export interface StartTls {
  readonly role: "client" | "server";
  readonly credentials: TlsCredentials;
  /** The name that the server's certificate must be for. */
  readonly hostname?: string;
  /** See HostReceiver; absent: `incoming`. */
  readonly receiver?: HostReceiver;
}

/** A duplex byte connection. */
export interface HostConnection {
  /** Bytes as they come; ends at the peer's close. Nobody's where a receiver takes them. */
  readonly incoming: AsyncIterable<Uint8Array>;
  /** Tells the receiver of all that comes, in place of `incoming`, of which nothing was asked yet. Absent: there is `incoming` only. */
  receive?(receiver: HostReceiver): void;
  /** Nothing is read any more, or it is again. Absent where receive() is. */
  hold?(isHeld: boolean): void;
  /** Answers when the bytes, and `more` right after them, are handed over and the peer keeps up (backpressure): at once, if they are. */
  write(bytes: Uint8Array, more?: Uint8Array): Answer<void>;
  /** Sends `head` and a range of a file of this host behind it, which is not read here; beyond the file's end zeroes. False: it can't, and nothing was sent. */
  writeFile?(head: Uint8Array, range: FileRange): Answer<void> | false;
  /** What is written is sent first, if the peer takes it in time. */
  close(): Promise<void>;
  /** Drops the connection at once, with what was not sent. Absent: close() is the only way. */
  abort?(): void;
  /**
   * Goes on in TLS, over what it gives; this connection is not to be used any more. Rejects (EIO, EACCES) when the sides do not
   * agree, and the connection is gone. Absent: the platform has none.
   */
  startTls?(how: StartTls): Promise<HostConnection>;
}

/** How a connection is made. */
export interface ConnectOptions {
  /** See HostReceiver; absent: `incoming`. */
  readonly receiver?: HostReceiver;
  /** Ends the attempt, with its reason. */
  readonly signal?: AbortSignal;
}

/** A listening socket. */
export interface HostListener {
  /** Where it listens: of port 0, the port that the platform chose. Absent: where it was told to. */
  readonly address?: SocketAddress;
  readonly connections: AsyncIterable<HostConnection>;
  close(): Promise<void>;
}

/** Where to connect or listen; `fd`: a socket that was handed over by whoever started the program. */
export type SocketAddress =
  | { type: "unix"; path: string }
  | { type: "inet"; host: string; port: number }
  | { type: "fd"; fd: number };

/** A server that is reached by WebSocket, whose messages are pieces of one stream of bytes. */
export interface WebSocketAddress {
  readonly type: "websocket";
  /** `ws:` or `wss:`. */
  readonly url: string;
  /** What a `wss:` client shows and wants to see; absent: the platform's own authorities. Pages can't choose. */
  readonly credentials?: TlsCredentials;
}

/** Sockets; absent where the platform has none. A Unix socket is created with mode 0600. */
export interface HostSockets {
  /** Pages reach WebSockets only; ENOTSUP for what the platform has not. */
  connect(address: SocketAddress | WebSocketAddress, options?: ConnectOptions): Promise<HostConnection>;
  listen(address: SocketAddress): Promise<HostListener>;
}

/** Raw DEFLATE (RFC 1951) and, where the platform has it, zstd (RFC 8878), for compressed clusters. */
export interface HostCodecs {
  /** Inflates `input` into `output`, stopping when `output` is full; trailing input is ignored. Returns the bytes written. */
  inflateRaw(input: Uint8Array, output: Uint8Array): Promise<number>;
  /** Deflates; undefined if the result would not be smaller than `limit` bytes. `level`: 1 … 9; ENOTSUP where there is one only. */
  deflateRaw(input: Uint8Array, limit: number, level?: number): Promise<Uint8Array | undefined>;
  /** Decompresses `input`, exactly one frame, into `output`; EIO if it holds more. Returns the bytes written. */
  decompressZstd?: (input: Uint8Array, output: Uint8Array) => Promise<number>;
  /** Decompresses what comes piece by piece, frames one after the other. ENOTSUP without a decoder. */
  zstdStream?: (input: ReadableStream<Uint8Array>) => AsyncIterable<Uint8Array>;
  /** Makes one frame; undefined if it would not be smaller than `limit` bytes. `level`: 1 … 22. ENOTSUP without a compressor. */
  compressZstd?: (input: Uint8Array, limit: number, level?: number) => Promise<Uint8Array | undefined>;
}

/** What a GET says beside its URL. */
export interface HttpRequest {
  readonly headers: Readonly<Record<string, string>>;
  /** Whether cookies and the like go along; platforms without any have nothing to send. */
  readonly credentials: "omit" | "same-origin" | "include";
  readonly signal: AbortSignal;
  /** The server's certificate is not checked; only where `skipsTlsChecks` says that this is possible. */
  readonly skipTlsChecks?: boolean;
}

/** An answer, of which the body has yet to come. The members are those of WHATWG Fetch's Response. */
export interface HttpResponse {
  readonly status: number;
  /** A header's value; null where it is not there, or kept from us (another origin that does not expose it). */
  readonly headers: { get(name: string): string | null };
  readonly body: ReadableStream<Uint8Array> | null;
}

/** HTTP; absent where the platform has none. */
export interface HostHttp {
  /** What relative URLs are relative to, and whose origin is "the same" one; absent: neither exists here. */
  readonly base?: string;
  /** Cookies can be given as a header. */
  readonly sendsCookies?: boolean;
  /** See HttpRequest. */
  readonly skipsTlsChecks?: boolean;
  /** Sends a GET that no cache answers, and follows redirects. Rejects when there is no answer, with the signal's reason when it aborts. */
  get(url: string, request: HttpRequest): Promise<HttpResponse>;
  /** Sends any request; an answer that leads elsewhere is answered as it is (pages are told status 0). Absent: there are only GETs. */
  send?(url: string, request: HttpSending): Promise<HttpResponse>;
}

/** What any request says beside its URL. */
export interface HttpSending extends Pick<HttpRequest, "headers" | "signal"> {
  readonly method: string;
  readonly body?: Uint8Array<ArrayBuffer>;
}

/** A request that somebody sends. */
export interface HttpIncoming {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  /** A header's value, by its name in small letters. */
  header(name: string): string | undefined;
}

/** What is answered. `body` gives its pieces until the signal says that the client has gone. */
export interface HttpOutgoing {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: (gone: AbortSignal) => AsyncIterable<Uint8Array>;
}

/** Answers requests. Where it rejects, the connection ends. */
export type HttpHandler = (request: HttpIncoming) => Promise<HttpOutgoing>;

/** Who takes a WebSocket. */
export interface SocketTaker {
  /** Messages are sent as text; else as bytes. */
  readonly isText: boolean;
  accept(connection: HostConnection): void;
}

/** What an HTTP server does beside answering. */
export interface HttpListenOptions {
  /** Hears how many connections there are. */
  readonly onClients?: (clients: number) => void;
  /** Who asks for a WebSocket: who takes it, or the status that it is refused with. Absent: all are refused. */
  readonly onSocket?: (request: HttpIncoming) => SocketTaker | number;
  /** TLS, of which the server shows these. */
  readonly credentials?: TlsCredentials;
}

/** HTTP servers; absent where the platform has none. */
export interface HostHttpServer {
  /** Listens on a TCP port, 0: any that is free. */
  listen(
    address: { host: string; port: number },
    handler: HttpHandler,
    options?: HttpListenOptions,
  ): Promise<HttpListening>;
}

/** An HTTP server that listens. */
export interface HttpListening {
  readonly port: number;
  /** Ends all connections; those of WebSockets stay by `sockets: "keep"`, as their takers' business. */
  close(how?: { sockets: "drop" | "keep" }): Promise<void>;
}

/**
 * An open file whose every call is synchronous. Counts are as the platform tells them: a full disk may show as a short
 * or an odd count. Errors are BlockErrors (ENOSPC for an exceeded quota).
 */
export interface SyncFile {
  /** Fills `buffer` from `offset`; fewer bytes at the end of the file. Parts never written read as zeroes. */
  read(buffer: Uint8Array, offset: number): number;
  /** Writes at `offset`, extending the file as needed. */
  write(buffer: Uint8Array, offset: number): number;
  /** Makes all that was written durable. Once it has failed it fails for as long as the file is open. */
  flush(): void;
  size(): number;
  truncate(size: number): void;
  close(): void;
}

/** The directory of one disk, which nobody else has open. */
export interface PrivateDirectory {
  /** Opens one of its files, made empty if it is not there. */
  file(name: string): Promise<SyncFile>;
  /** Lets others have it; its files must be closed. */
  close(): void;
}

/** Storage of this program alone, such as the origin private file system. Paths are names joined by slashes. */
export interface HostPrivateStorage {
  /** Takes a directory; ENOENT, EAGAIN (somebody has it), with `create` EEXIST unless it is empty or `replace` is set. */
  open(path: string, options?: { create?: boolean; replace?: boolean }): Promise<PrivateDirectory>;
  /** Removes a directory with its files; EAGAIN, ENOENT. */
  remove(path: string): Promise<void>;
}

/** Hashes that LUKS headers name. */
export type HashName = "md5" | "sha1" | "sha224" | "sha256" | "sha384" | "sha512" | "ripemd160";

/** A block cipher under one key, each block of 16 bytes by itself (ECB); modes are built on it in src/crypto. */
export interface HostBlockCipher {
  /** Encrypts whole blocks of `input` into `output`, which is as long and may be the same bytes. */
  encrypt(input: Uint8Array, output: Uint8Array): void;
  /** The reverse. */
  decrypt(input: Uint8Array, output: Uint8Array): void;
}

/** How a key is derived from a passphrase (RFC 8018). */
export interface Pbkdf2Request {
  readonly hash: HashName;
  readonly secret: Uint8Array;
  readonly salt: Uint8Array;
  readonly iterations: number;
  /** Length of the key, bytes. */
  readonly bytes: number;
}

/** Cryptography, for encrypted images. ENOTSUP where the platform lacks a hash. */
export interface HostCrypto {
  /** Random bytes that are fit for keys. */
  randomBytes(bytes: number): Uint8Array;
  /** AES; the key has 16, 24 or 32 bytes. */
  aes(key: Uint8Array): HostBlockCipher;
  hash(name: HashName, data: Uint8Array): Uint8Array;
  /** Hashes what comes piece by piece; absent: only what is there as a whole can be hashed. */
  hasher?(name: HashName): { update(bytes: Uint8Array): void; digest(): Uint8Array };
  pbkdf2(request: Pbkdf2Request): Promise<Uint8Array>;
}

/** The numbered values of one disk, which nobody else has open. Errors are BlockErrors (ENOSPC for an exceeded quota). */
export interface BlockDatabase {
  /** The values there are with keys from `first` to below `end`. */
  read(first: number, end: number): Promise<Map<number, Uint8Array>>;
  /** All keys, ascending. */
  keys(): Promise<number[]>;
  /** Sets values (null removes), all or none. With `durable` it and all changes before it survive a power cut. */
  change(values: ReadonlyMap<number, Uint8Array | null>, options: { durable: boolean }): Promise<void>;
  /** Lets others have it. */
  close(): void;
}

/** Databases by name, such as IndexedDB's. */
export interface HostDatabases {
  /** Takes a database; ENOENT, EAGAIN (somebody has it), with `create` EEXIST unless `replace` is set. */
  open(name: string, options?: { create?: boolean; replace?: boolean }): Promise<BlockDatabase>;
  /** EAGAIN, ENOENT. */
  remove(name: string): Promise<void>;
}

/** A disk in private storage or a database. */
export interface StoredDisk {
  /** The driver that opens it. */
  readonly driver: "opfs" | "indexeddb";
  readonly filename: string;
  /** Room that it takes, bytes. */
  readonly storedBytes: number;
}

/** A named channel that others may listen to, as Node's diagnostics_channel has them. */
export interface HostChannel {
  /** Whether anybody listens; if not, nothing is made for it. */
  readonly hasSubscribers: boolean;
  publish(message: object): void;
}

/** Who looks on: the program that the library runs in, and its tools. */
export interface HostDiagnostics {
  /** Says something to whoever runs the program. `code` is stable, for programs that sort warnings. */
  warn(message: string, code: string): void;
  /** The channel of that name, always the same object; absent: the platform has none. */
  channel?(name: string): HostChannel;
}

/** All of the outside. */
export interface Host {
  readonly clock: Clock;
  readonly random: Random;
  readonly files: HostFiles;
  readonly codecs: HostCodecs;
  readonly sockets?: HostSockets;
  readonly http?: HostHttp;
  readonly httpServer?: HostHttpServer;
  readonly privateStorage?: HostPrivateStorage;
  readonly databases?: HostDatabases;
  /** What private storage and databases hold, also what is open. */
  readonly storedDisks?: () => Promise<StoredDisk[]>;
  /** Bytes that private storage and databases may still take; undefined where nobody knows. */
  readonly roomBytes?: () => Promise<number | undefined>;
  /** Absent: nobody looks on. */
  readonly diagnostics?: HostDiagnostics;
  /** A variable of the process's environment; absent: there is none. */
  readonly environment?: (name: string) => string | undefined;
  /** Loads the platform's cryptography; absent: encrypted images are refused. */
  readonly crypto?: () => Promise<HostCrypto>;
}
