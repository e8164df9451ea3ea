/**
 * A connected socket of Node. Who takes what comes at once reads it from one buffer that all such connections share, and what it
 * answers in short leaves by one call at the turn's end: many small requests cost neither memory nor promises. What lies in a file in
 * memory leaves by the kernel alone (sendfile): the peer's copy of it is the only one.
 *
 * Invariant: bytes leave in the order in which they were written, whichever way they go.
 */
import * as fs from "node:fs";
import type * as net from "node:net";
import type { Answer } from "../../base/answer.ts";
import { type BlockError, blockError } from "../../base/errors.ts";
import type { FileRange, HostConnection, HostFile, HostReceiver, StartTls } from "../../base/host.ts";
import { KiB } from "../../base/limits.ts";
import { nodeError } from "./errors.ts";
import type { NodeFile } from "./file.ts";
import { nativeIfLoaded } from "./native.ts";
import type { RightsReceiver } from "./rights.ts";
import { secure } from "./tls.ts";

/** How long close() waits for a peer that reads no more, ms. */
const CLOSE_GRACE_MS = 2000;
/** What is so long leaves at once, while it is in the processor's cache. */
const LONG_BYTES = 64 * KiB;
/** What the kernel keeps of what was sent and not yet taken, as far as it allows that; Linux keeps 208 KiB by itself. */
const SEND_BUFFER_BYTES = 512 * KiB;
/** What a receiver is told of at once, at most. */
const RECEIVE_BYTES = 256 * KiB;

/** What is read of a file to wait for room for the rest of it. */
const WAITING_BYTES = 4 * KiB;
/** As much of what is written in one turn is kept until it ends. */
const OUTBOX_BYTES = 2 * LONG_BYTES;
/** Buffers for that, kept for whichever connection needs one next. */
const outboxes: Uint8Array[] = [];
const MOST_OUTBOXES = 4;
/** What was read last, by whichever connection; made when it is needed. */
let inbox: Uint8Array | undefined;

/** A file that may lie in memory. */
type InMemory = Pick<NodeFile, "fdInMemory">;

/** Node's own object under a socket. */
interface Handle {
  readonly fd?: number;
  readonly useUserBuffer?: unknown;
}

function handleOf(socket: net.Socket): Handle | null | undefined {
  return (socket as { _handle?: Handle | null })._handle;
}

/** A connection over `socket`. */
export class NodeConnection implements HostConnection {
  readonly incoming: AsyncIterable<Uint8Array>;
  readonly descriptors?: RightsReceiver;
  #socket: net.Socket;
  #gathering = false;
  #isReceiving = false;
  /** Within a delivery. */
  #delivering = false;
  /** What was written in this turn: so many bytes of it. */
  #outbox: Uint8Array | undefined;
  #outBytes = 0;
  /** Its descriptor takes bytes as they are. */
  #isPlain = false;
  /** The rest of a file's range is under way: nothing may come between. */
  #sending: Promise<void> | undefined;

  /** `receiver`: who is told of its end. `rights`: reads the socket, which Node does not then. */
  constructor(socket: net.Socket, receiver?: HostReceiver, rights?: RightsReceiver) {
    this.#socket = socket;
    this.incoming = {
      [Symbol.asyncIterator]: () => (rights ? rights.incoming() : iterate(this.#socket)),
    };
    if (rights) this.descriptors = rights;
    this.#listen(receiver);
  }

  #listen(receiver: HostReceiver | undefined): void {
    if (receiver) tellEnd(this.#socket, receiver);
    // Errors reach the reader and the writers; without a listener they would end the process.
    this.#socket.on("error", () => undefined);
  }

  receive(receiver: HostReceiver): void {
    this.#isReceiving = true;
    const deliver = (tell: () => void): void => this.#deliver(tell);
    const restarted = restart(this.#socket, readFor(receiver, deliver));
    if (restarted) {
      this.#socket = restarted;
      widen(restarted);
      this.#isPlain = true;
      this.#listen(receiver);
      return;
    }
    tellEnd(this.#socket, receiver);
    this.#socket.on("data", (bytes: Uint8Array) => deliver(() => receiver.take(bytes)));
  }

  hold(isHeld: boolean): void {
    if (isHeld) this.#socket.pause();
    else this.#socket.resume();
  }

  writeFile(head: Uint8Array, range: FileRange): Answer<void> | false {
    if (!this.#isPlain || !this.#socket.writable || fdInMemory(range.file) === undefined) return false;
    return this.#sending
      ? this.#sending.then(() => this.#writeFileNext(head, range))
      : this.#startFile(head, range);
  }

  /** After what was under way: others may have come first. */
  #writeFileNext(head: Uint8Array, range: FileRange): Answer<void> {
    const answer = this.writeFile(head, range);
    if (answer === false) throw blockError("EPIPE", "send");
    return answer;
  }

  #startFile(head: Uint8Array, { file, offset, bytes }: FileRange): Answer<void> {
    this.#leaveOut();
    const begun = sendKept(this.#socket, head);
    if (begun < head.byteLength) this.#socket.write(head.slice(begun));
    const end = offset + bytes;
    const at = sendFile(this.#socket, file, { offset, end });
    if (at === end) return undefined;
    this.#sending = this.#sendRest(file, at, end).finally(() => (this.#sending = undefined));
    return this.#sending;
  }

  /** Sends what the platform did not take at once; after each piece that it has taken it is asked again. */
  async #sendRest(file: HostFile, from: number, end: number): Promise<void> {
    try {
      for (let at = from; at < end; at = sendFile(this.#socket, file, { offset: at, end })) {
        const piece = new Uint8Array(Math.min(WAITING_BYTES, end - at));
        await file.read(piece, at);
        await new Promise<void>((resolve, reject) => {
          this.#socket.write(piece, (error) => (error ? reject(writeError(error)) : resolve()));
        });
        at += piece.byteLength;
      }
    } catch (error) {
      // The peer waits for the rest, which does not come.
      this.#socket.destroy();
      throw error;
    }
  }

  write(bytes: Uint8Array, more?: Uint8Array): Answer<void> {
    if (this.#sending) return this.#sending.then(() => this.write(bytes, more));
    if (this.#isReceiving && !more && this.#putOut(bytes)) return undefined;
    this.#leaveOut();
    const socket = this.#socket;
    const isLong = bytes.byteLength + (more?.byteLength ?? 0) >= LONG_BYTES;
    if (!isLong || more) this.#gather();
    let told: ((error: Error | null | undefined) => void) | undefined;
    if (more) socket.write(bytes);
    // Node tells it later in any case.
    socket.write(more ?? bytes, (error) => told?.(error));
    if (isLong) this.#leave();
    if (isLong && socket.writableLength === 0 && socket.writable) return undefined;
    return new Promise((resolve, reject) => {
      told = (error) => (error ? reject(writeError(error)) : resolve());
    });
  }

  #deliver(tell: () => void): void {
    this.#delivering = true;
    try {
      tell();
    } finally {
      this.#delivering = false;
      this.#leaveOut();
    }
  }

  /** Keeps a copy until the turn is over, if nothing waits before it. */
  #putOut(bytes: Uint8Array): boolean {
    if (bytes.byteLength >= LONG_BYTES) return false;
    if (this.#outBytes + bytes.byteLength > OUTBOX_BYTES) this.#leaveOut();
    if (this.#socket.writableLength > 0 || !this.#socket.writable) return false;
    if (!this.#outbox) {
      this.#outbox = outboxes.pop() ?? new Uint8Array(OUTBOX_BYTES);
      if (!this.#delivering) setImmediate(() => this.#leaveOut());
    }
    this.#outbox.set(bytes, this.#outBytes);
    this.#outBytes += bytes.byteLength;
    return true;
  }

  /** What was kept leaves; what the platform does not take at once waits in the socket. */
  #leaveOut(): void {
    const outbox = this.#outbox;
    if (!outbox) return;
    const kept = outbox.subarray(0, this.#outBytes);
    this.#outbox = undefined;
    this.#outBytes = 0;
    const sent = this.#isPlain ? sendKept(this.#socket, kept) : 0;
    if (sent < kept.byteLength) this.#socket.write(kept.slice(sent));
    if (outboxes.length < MOST_OUTBOXES) outboxes.push(outbox);
  }

  /** What is written in one turn of the event loop leaves by one call at its end: each would wake the peer. */
  #gather(): void {
    if (this.#gathering) return;
    this.#gathering = true;
    this.#socket.cork();
    setImmediate(() => this.#leave());
  }

  /** What was gathered leaves, as far as the platform takes it. */
  #leave(): void {
    if (!this.#gathering) return;
    this.#gathering = false;
    this.#socket.uncork();
  }

  abort(): void {
    this.#leaveOut();
    this.#socket.uncork();
    this.#socket.destroy();
  }

  async startTls(how: StartTls): Promise<HostConnection> {
    this.#leaveOut();
    const connection = new NodeConnection(await secure(this.#socket, how));
    if (how.receiver) connection.receive(how.receiver);
    return connection;
  }

  close(): Promise<void> {
    this.#leaveOut();
    const socket = this.#socket;
    if (socket.closed) return Promise.resolve();
    return new Promise((resolve) => {
      const grace = setTimeout(() => socket.destroy(), CLOSE_GRACE_MS);
      socket.once("close", () => {
        clearTimeout(grace);
        resolve();
      });
      socket.destroySoon();
    });
  }
}

/** A reply of several hundred KiB leaves in one go, and the next ones are made while the peer takes it. */
function widen(socket: net.Socket): void {
  const fd = handleOf(socket)?.fd ?? -1;
  if (fd >= 0) nativeIfLoaded()?.setSendBuffer(fd, SEND_BUFFER_BYTES);
}

/** The descriptor of a file in memory; undefined: it is none, or nothing can be sent from it. */
function fdInMemory(file: HostFile): number | undefined {
  return nativeIfLoaded() && "fdInMemory" in file ? (file as InMemory).fdInMemory : undefined;
}

/** Sends of a file what the platform takes at once; answers where that ends. What is wrong is told by a read or a write. */
function sendFile(
  socket: net.Socket,
  file: HostFile,
  { offset, end }: { offset: number; end: number },
): number {
  let at = offset;
  for (let sent = 1; sent > 0 && at < end; at += Math.max(0, sent)) {
    const [to, from] = [handleOf(socket)?.fd ?? -1, fdInMemory(file)];
    if (to < 0 || from === undefined || socket.writableLength > 0) break;
    sent = nativeIfLoaded()!.sendFile(to, { fd: from, offset: at }, end - at);
  }
  return at;
}

/** Sends what was kept; answers how many bytes the platform took. What is wrong is told by the next write. */
function sendKept(socket: net.Socket, kept: Uint8Array): number {
  const fd = handleOf(socket)?.fd ?? -1;
  if (fd < 0 || socket.writableLength > 0) return 0;
  try {
    return fs.writeSync(fd, kept);
  } catch {
    return 0;
  }
}

/**
 * The same socket anew, read by `onread`, which Node has for sockets that connect and not for those of a server. Undefined where
 * this can't be done: it was read already, is TLS's, or the platform's is made otherwise.
 */
function restart(socket: net.Socket, onread: net.OnReadOpts): net.Socket | undefined {
  const handle = handleOf(socket);
  const isPlain = socket.isPaused() && socket.readableLength === 0 && !("encrypted" in socket);
  if (!isPlain || socket.destroyed || typeof handle?.useUserBuffer !== "function") return undefined;
  (socket as { _handle?: Handle | null })._handle = null;
  socket.destroy();
  const { Socket } = process.getBuiltinModule("node:net");
  const options = { handle, onread, readable: true, writable: true, allowHalfOpen: true };
  return new Socket(options);
}

/** Node reports a write after the end of a socket with a code of its own. */
function writeError(error: Error): BlockError {
  const ended = "code" in error && typeof error.code === "string" && error.code.startsWith("ERR_");
  return ended ? blockError("EPIPE", "send") : nodeError(error, "send");
}

/** Tells a receiver of the end, once: of the peer's direction, or of all by an error. */
function tellEnd(socket: net.Socket, receiver: HostReceiver): void {
  let told = false;
  const tell = (error?: Error): void => {
    if (told) return;
    told = true;
    receiver.end(error && nodeError(error, "receive"));
  };
  socket.once("end", () => tell());
  socket.once("error", tell);
  socket.once("close", () => tell());
}

async function* iterate(socket: net.Socket): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) yield chunk as Uint8Array;
  } catch (error) {
    // Closed by ourselves while waiting: an end, not an error.
    const closedHere =
      error instanceof Error && "code" in error && error.code === "ERR_STREAM_PREMATURE_CLOSE";
    if (!closedHere) throw nodeError(error, "receive");
  }
}

/** Reads to where the receiver wants it, else into the buffer that is filled again and again. */
export function readFor(
  receiver: HostReceiver,
  deliver = (tell: () => void): void => tell(),
): net.OnReadOpts {
  const own = (inbox ??= new Uint8Array(RECEIVE_BYTES));
  return {
    buffer: () => receiver.place?.() ?? own,
    callback: (count, buffer) => {
      deliver(() => {
        if (buffer === own) receiver.take(own.subarray(0, count));
        else receiver.placed?.(count);
      });
      return true;
    },
  };
}
