/**
 * Closing what was opened, whatever happened in between. Invariants: everything is closed, in the order given, also after a
 * failure; what is thrown is what failed first, in its own words, with what failed later as its cause. (A `finally` that
 * awaits a close throws the close's error instead: on a full disk both fail, and the reason would be lost.)
 */
import { withCause } from "./errors.ts";

/** Carries out `body`, then each of `closes`. Throws the first failure of all of them. */
export async function closing<T>(
  body: () => Promise<T>,
  ...closes: readonly (() => Promise<unknown>)[]
): Promise<T> {
  const failures: unknown[] = [];
  const attempt = async <R>(step: () => Promise<R>): Promise<R | undefined> => {
    try {
      return await step();
    } catch (error) {
      failures.push(error);
      return undefined;
    }
  };
  const result = await attempt(body);
  for (const close of closes) await attempt(close);
  if (failures.length === 0) return result as T;
  const [first, ...later] = failures;
  throw later.reduce((error, next) => withCause(error, next), first);
}

/** After a failure: carries out each of `closes`, then throws `error`, with what failed meanwhile as its cause. */
export function failed(error: unknown, ...closes: readonly (() => Promise<unknown>)[]): Promise<never> {
  const body = (): never => {
    throw error;
  };
  return closing(body, ...closes);
}
