// The page of the acceptance tests: hands calls of the test on to its worker.
declare global {
  // oxlint-disable-next-line no-var -- a global of the page
  var call: (name: string, args: unknown[]) => Promise<unknown>;
}

const worker = new Worker("/worker.js", { type: "module" });
const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
let next = 0;

worker.addEventListener(
  "message",
  ({ data }: MessageEvent<{ id: number; value?: unknown; error?: string }>) => {
    const call = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error === undefined) call?.resolve(data.value);
    else call?.reject(new Error(data.error));
  },
);

globalThis.call = (name, args) =>
  new Promise((resolve, reject) => {
    waiting.set(++next, { resolve, reject });
    worker.postMessage({ id: next, name, args });
  });

export {};
