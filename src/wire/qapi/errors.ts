/**
 * The one error that reading QAPI data can end in: a wrong argument, a malformed option string, malformed JSON.
 * The message is QEMU's text for the case; its class on the wire is always GenericError.
 */
import { CommandError } from "../../base/errors.ts";

/** Input that the schema refuses. */
export class QapiError extends CommandError {
  override readonly name = "QapiError";
}
