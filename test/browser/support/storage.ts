// A worker with an engine over private storage, as an object whose methods are the worker's calls.
import type { Calls } from "./storage-worker.ts";

type Asynchronous<T> = {
  [K in keyof T]: T[K] extends (...args: infer A) => infer R ? (...args: A) => Promise<Awaited<R>> : never;
};

/** A running worker. */
export interface Storage {
  readonly calls: Asynchronous<Calls>;
  /** Ends it at once, as the closing of its tab does. */
  kill(): void;
}

/** Starts a worker with an engine over the private file system. */
export function startStorage(): Storage {
  const worker = new Worker(new URL("./storage-worker.ts", import.meta.url), { type: "module" });
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let next = 0;
  worker.addEventListener(
    "message",
    ({ data }: MessageEvent<{ id: number; value?: unknown; error?: object }>) => {
      const call = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error) call?.reject(Object.assign(new Error(), data.error));
      else call?.resolve(data.value);
    },
  );
  worker.addEventListener("error", ({ message }) => {
    for (const { reject } of waiting.values()) reject(new Error(`the worker failed: ${message}`));
  });
  const calls = new Proxy({} as Asynchronous<Calls>, {
    get:
      (_target, name) =>
      (...args: unknown[]) =>
        new Promise((resolve, reject) => {
          waiting.set(++next, { resolve, reject });
          worker.postMessage({ id: next, name, args });
        }),
  });
  return { calls, kill: () => worker.terminate() };
}
