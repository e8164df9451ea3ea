/**
 * The error types of the library. `code` (errno) alone drives the error policy; `message` is in QEMU's words where
 * QEMU has them; the QMP class is attached here and put on the wire at one boundary (server/monitor).
 */
import { AssertionError } from "./assert.ts";
import { type Errno, errnoFromNumber, isErrno, strerror } from "./errno.ts";

/** QMP's error classes (QAPI `QapiErrorClass`). */
export type QmpErrorClass =
  | "GenericError"
  | "CommandNotFound"
  | "DeviceNotActive"
  | "DeviceNotFound"
  | "KVMMissingCap";

/** What a refusal carries for programs that tell it to people, beside its words. */
export interface ErrorDetails {
  /** Advice that QEMU prints in a line below the message; QMP does not show it. */
  hint?: string;
  /** The path of a parameter that a description has too much: `file.sise`. */
  unexpected?: string;
  /** The verb of the command line that does what this one refuses. */
  instead?: string;
  /** What `check -r all` would take out of the image to make it a possible one. */
  removable?: string;
  /** A name that no node has, and the child that a description lacks. */
  missingNode?: string;
  missingChild?: string;
}

/** What a BlockError says beside its message. `offset` and `bytes` are in bytes of the node named. */
export interface BlockErrorDetails {
  code: Errno;
  /** The operation that failed: a driver verb (`pread`, `flush` …) or `open`, `create`, `arena` … */
  op: string;
  /** Default: strerror(code). */
  message?: string;
  node?: string;
  offset?: number;
  bytes?: number;
  cause?: unknown;
  details?: ErrorDetails;
}

/** A failed block operation. */
export class BlockError extends Error {
  override readonly name: string = "BlockError";
  readonly code: Errno;
  readonly op: string;
  readonly node: string | undefined;
  readonly offset: number | undefined;
  readonly bytes: number | undefined;
  readonly details: ErrorDetails;

  constructor(details: BlockErrorDetails) {
    super(
      details.message ?? strerror(details.code),
      details.cause === undefined ? {} : { cause: details.cause },
    );
    this.code = details.code;
    this.op = details.op;
    this.node = details.node;
    this.offset = details.offset;
    this.bytes = details.bytes;
    this.details = details.details ?? {};
  }
}

/** A malformed or unsupported image. */
export class ImageError extends BlockError {
  override readonly name = "ImageError";
  /** The structure that is wrong (`header`, `L1 table`, …). */
  readonly structure: string;
  /** The field in it, if one. */
  readonly field: string | undefined;

  constructor(
    details: Omit<BlockErrorDetails, "code" | "op"> & {
      code?: Errno;
      op?: string;
      structure: string;
      field?: string;
    },
  ) {
    super({ ...details, code: details.code ?? "EINVAL", op: details.op ?? "open" });
    this.structure = details.structure;
    this.field = details.field;
  }
}

/** What may be said of a refusal beside its words. */
export interface CommandErrorOptions {
  qmpClass?: QmpErrorClass | undefined;
  code?: Errno | undefined;
  cause?: unknown;
  details?: ErrorDetails;
}

/** A refused command or option: the message is the answer that QMP shows. */
export class CommandError extends Error {
  override readonly name: string = "CommandError";
  readonly qmpClass: QmpErrorClass;
  /**
   * What programs tell refusals apart by: ENOENT (no such node, job, bitmap, object …), EEXIST (the name is taken), EBUSY (in use, or
   * a job's state does not take the verb), ENOTSUP (nobody can do that); EINVAL: an argument is wrong, and all else.
   */
  readonly code: Errno;
  readonly details: ErrorDetails;

  constructor(message: string, options: CommandErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.qmpClass = options.qmpClass ?? "GenericError";
    this.code = options.code ?? codeOfClass(this.qmpClass);
    this.details = options.details ?? {};
  }
}

function codeOfClass(qmpClass: QmpErrorClass): Errno {
  if (qmpClass === "CommandNotFound") return "ENOSYS";
  return qmpClass === "GenericError" ? "EINVAL" : "ENOENT";
}

/** What `await using` makes of two failures: `suppressed` is the first, `error` the one of the closing after it. */
interface Suppression extends Error {
  readonly error: unknown;
  readonly suppressed: unknown;
}

function isSuppression(error: unknown): error is Suppression {
  return (
    error instanceof Error && error.name === "SuppressedError" && "error" in error && "suppressed" in error
  );
}

/** The last cause of an error, or `stop` if that is one. */
function lastCause(error: unknown, stop?: unknown): unknown {
  let last = error;
  while (last instanceof Error && last !== stop && last.cause !== undefined) last = last.cause;
  return last;
}

/**
 * Hangs `later` onto the end of the chain of causes of `first`, once. Not if that would close a ring: several who wait may
 * get the same errors in different orders.
 */
export function withCause(first: unknown, later: unknown): unknown {
  const last = lastCause(first, later);
  if (last instanceof Error && last !== lastCause(later, last) && last !== later) last.cause = later;
  return first;
}

/**
 * What failed first. Where something fails and then the closing of what was open fails, too (a full disk), the language
 * makes a SuppressedError, whose own text says neither: everybody who shows an error, asks for its errno or hands it on
 * asks here. What failed later is the last cause of what failed first.
 */
export function firstFailure(error: unknown): unknown {
  if (!isSuppression(error)) return error;
  return withCause(firstFailure(error.suppressed), firstFailure(error.error));
}

/**
 * The errno of anything thrown: BlockError's own, a platform error's `code`, else EIO. A broken invariant has none: whoever asks
 * for it, to decide about a retry or to wrap it up, gets the AssertionError thrown instead.
 */
export function errnoOf(thrown: unknown): Errno {
  const error = firstFailure(thrown);
  if (error instanceof AssertionError) throw error;
  if (error instanceof BlockError) return error.code;
  if (typeof error === "object" && error !== null) {
    if ("code" in error && isErrno(error.code)) return error.code;
    if ("errno" in error && typeof error.errno === "number") return errnoFromNumber(Math.abs(error.errno));
  }
  return "EIO";
}

/** The message of anything thrown. */
export function messageOf(thrown: unknown): string {
  const error = firstFailure(thrown);
  return error instanceof Error ? error.message : String(error);
}

/**
 * The message of the failure below all those that were made of it: below `fetch failed` the connection that was refused, below a
 * try of several addresses the first.
 */
export function rootMessage(thrown: unknown): string {
  let at = firstFailure(thrown);
  for (;;) {
    if (!(at instanceof Error)) return String(at);
    const below: unknown = at.cause ?? (at instanceof AggregateError ? at.errors[0] : undefined);
    if (!(below instanceof Error) || (below.message === "" && !(below instanceof AggregateError)))
      return at.message;
    at = below;
  }
}

/** A detail of an error, or of the errors that it was made of. */
export function detailOf(error: unknown, name: keyof ErrorDetails): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause)
    if ((at instanceof BlockError || at instanceof CommandError) && at.details[name] !== undefined)
      return at.details[name];
  return undefined;
}

/** Whether `error` says that an operation is not supported, so that a caller may take a slower way. */
export function isUnsupported(error: unknown): boolean {
  return errnoOf(error) === "ENOTSUP";
}

/** A BlockError for `code` in one call. */
export function blockError(code: Errno, op: string, message?: string): BlockError {
  return new BlockError(message === undefined ? { code, op } : { code, op, message });
}
