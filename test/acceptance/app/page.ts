// The page of the acceptance tests: hands calls of the test on to its worker.
import { obeyAgent } from "./agent.ts";

declare global {
  // oxlint-disable-next-line no-var -- a global of the page
  var call: (name: string, args: unknown[]) => Promise<unknown>;
  /** Posts what a call returns to the test's server: the worker itself has little time for it beside v86. */
  // oxlint-disable-next-line no-var -- as above
  var upload: (name: string, args: unknown[]) => Promise<void>;
}

const script = new URLSearchParams(location.search).get("worker") ?? "worker";
const worker = new Worker(`/${script}.js`, { type: "module" });
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

globalThis.upload = async (name, args) => {
  const bytes = (await call(name, args)) as Uint8Array<ArrayBuffer>;
  // The debugger that the test drives the browser by would copy plain bytes into its messages.
  const answer = await fetch("/upload", { method: "POST", body: new Blob([bytes]) });
  if (!answer.ok) throw new Error(`upload: ${answer.status}`);
};

obeyAgent();
