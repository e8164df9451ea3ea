/** Why the system refused something, in the C library's words, as of images: Node's own messages tell its calls, too. */
import { errnoOf, messageOf } from "../base/errors.ts";
import { strerror } from "../base/errno.ts";

/** The reason alone, for who names the file; of other errors their message. */
export function reasonOf(error: unknown): string {
  return error instanceof Error && "syscall" in error ? strerror(errnoOf(error)) : messageOf(error);
}

/** The reason with the path, where the error has one; of other errors their message. */
export function reasonWithPath(error: unknown): string {
  const path = error instanceof Error && "path" in error ? error.path : undefined;
  return typeof path === "string" ? `'${path}': ${reasonOf(error)}` : messageOf(error);
}
