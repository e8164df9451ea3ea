// The page of `npm run bench:guest-memory`: a script in the place of a guest reads and writes a disk of 64 GiB as v86's drives do.
import { type PageGuestDisk, openGuestDisk } from "blockwright/v86";

const PAGE = 4096;
const REQUEST = 1024 * 1024;

interface Measured {
  measureUserAgentSpecificMemory(): Promise<{ bytes: number }>;
}

let disk: PageGuestDisk | undefined;

const get = (at: number): Promise<Uint8Array> =>
  new Promise((resolve) => disk!.hda.get(at, REQUEST, resolve));
const set = (at: number, data: Uint8Array): Promise<void> =>
  new Promise((resolve) => disk!.hda.set(at, data, () => resolve()));

function check(at: number, bytes: Uint8Array, more: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let page = 0; page < bytes.byteLength; page += PAGE)
    if (view.getFloat64(page, true) !== (at + page) / PAGE + more)
      throw new Error(`not what it must be: ${at + page}`);
}

const calls = {
  /** Opens it without the filling, which would bring all of it. */
  async open(): Promise<void> {
    const createWorker = (): Worker => new Worker("/guest-worker.js", { type: "module" });
    disk = await openGuestDisk({ url: "/disk.img", name: "memory", createWorker });
    await disk.pauseFill();
    const nothing = (): void => undefined;
    disk.attach({ run: nothing, stop: nothing, add_listener: nothing, remove_listener: nothing });
  },

  /** Bytes of page and worker by the browser's own count, once it has collected. */
  memory: async () => (await (performance as never as Measured).measureUserAgentSpecificMemory()).bytes,

  async read(from: number, bytes: number): Promise<void> {
    const one = async (at: number): Promise<void> => check(at, await get(at), 0);
    for (let at = from; at < from + bytes; at += 4 * REQUEST)
      await Promise.all([0, 1, 2, 3].map((index) => one(at + index * REQUEST)));
  },

  /** Writes and reads back what came before. */
  async write(from: number, bytes: number): Promise<void> {
    const data = new Uint8Array(REQUEST).fill(5);
    const view = new DataView(data.buffer);
    for (let at = from; at < from + bytes; at += REQUEST) {
      for (let page = 0; page < REQUEST; page += PAGE) view.setFloat64(page, (at + page) / PAGE + 0.5, true);
      await set(at, data);
    }
    check(from, await get(from), 0.5);
  },

  sync: () => disk!.hda.sync(),
};

/** The same with nothing of ours: see bare-worker.ts. */
const bareWorker =
  location.search === "?bare" ? new Worker("/bare-worker.js", { type: "module" }) : undefined;
const bare =
  (op: "read" | "write") =>
  (from: number, bytes: number): Promise<void> => {
    bareWorker!.postMessage([op, from, bytes]);
    return new Promise((resolve) => {
      bareWorker!.onmessage = ({ data }) => {
        if (data === "done") resolve();
      };
    });
  };
const nothing = (): Promise<void> => Promise.resolve();
const theirs = { ...calls, open: nothing, sync: nothing, read: bare("read"), write: bare("write") };

globalThis.call = (name, args) =>
  ((bareWorker ? theirs : calls)[name as keyof typeof calls] as (...given: unknown[]) => Promise<unknown>)(
    ...args,
  );
