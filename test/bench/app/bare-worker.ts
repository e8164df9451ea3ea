// What the worker of a guest's disk cannot do without, and nothing else: it fetches pieces of the image, keeps them in the private file
// system, and posts them to the page.
import { bareHandle } from "../../acceptance/app/bare-handle.ts";

const PIECE = 1 << 20;
const ROOM = 256 * PIECE;
const handle = bareHandle(0);

async function one(op: string, from: number): Promise<void> {
  if (op === "write") return void (await handle).write(new Uint8Array(PIECE), { at: from % ROOM });
  const answer = await fetch("/disk.img", { headers: { range: `bytes=${from}-${from + PIECE - 1}` } });
  const bytes = await answer.arrayBuffer();
  (await handle).write(new Uint8Array(bytes), { at: from % ROOM });
  postMessage(bytes, { transfer: [bytes] });
}

async function all([op, from, bytes]: [string, number, number]): Promise<void> {
  for (let at = from; at < from + bytes; at += 4 * PIECE)
    await Promise.all([0, 1, 2, 3].map((index) => one(op, at + index * PIECE)));
  postMessage("done");
}

addEventListener("message", ({ data }: MessageEvent<[string, number, number]>) => void all(data));
