/**
 * What a server refuses in a handshake, in QEMU's words: what it says of its own accord stands in a line below.
 * Source: behaviour of QEMU 7.2.
 */
import type { Errno } from "../../../base/errno.ts";
import { BlockError } from "../../../base/errors.ts";
import { limits } from "../../../base/limits.ts";
import { option, optionReply, optionReplyWord, optionWord } from "../constants.ts";

/** The server understands us and will not, or cannot, do what is asked. */
export class ServerRefusal extends BlockError {
  constructor(message: string, hint?: string, code: Errno = "EINVAL") {
    super({ code, op: "open", message, ...(hint === undefined ? {} : { details: { hint } }) });
  }
}

const words: Readonly<Record<number, string>> = {
  [optionReply.errUnsupported]: "Unsupported option type",
  [optionReply.errPolicy]: "Denied by server for option",
  [optionReply.errInvalid]: "Invalid parameters for option",
  [optionReply.errPlatform]: "Server lacks support for option",
  [optionReply.errTlsRequired]: "TLS negotiation required before option",
  [optionReply.errShutdown]: "Server shutting down before option",
  [optionReply.errBlockSizeRequired]: "Server requires INFO_BLOCK_SIZE for option",
};

/** The text of a server as it may be shown: a line, without control characters. */
function textOf(payload: Uint8Array): string {
  const text = new TextDecoder().decode(payload.subarray(0, limits.nbdMaxStringBytes));
  // oxlint-disable-next-line no-control-regex -- these are what is looked for
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, " ");
}

/** Why an option was refused. */
export function whyRefused(
  asked: number,
  { type, payload, length }: { type: number; payload: Uint8Array; length: number },
): ServerRefusal {
  if (length > 0 && payload.byteLength === 0)
    return new ServerRefusal(`server error ${type} (${optionReplyWord(type)}) message is too long`);
  const text = textOf(payload);
  const hints = [
    ...(type === optionReply.errTlsRequired ? ["Did you forget a valid tls-creds?"] : []),
    ...(text === "" ? [] : [`server reported: ${text}`]),
  ];
  const hint = hints.length === 0 ? undefined : hints.join("\n");
  if (type === optionReply.errUnknown) return new ServerRefusal("Requested export not available", hint);
  const start = words[type] ?? "Unknown error code when asking for option";
  const message = `${start} ${asked} (${optionWord(asked)})`;
  return new ServerRefusal(message, hint, asked === option.startTls ? "EACCES" : "EINVAL");
}
