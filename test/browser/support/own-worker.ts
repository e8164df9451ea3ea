// A worker's script of somebody's own: it brings its engine, and has messages of its own.
import { createEngine, serveWorker } from "../../../src/worker.ts";

serveWorker(createEngine({ arenaBytes: 16 * 1024 * 1024 }));
let messages = 0;
addEventListener("message", ({ data }: MessageEvent<unknown>) => {
  if (data === "fail") throw new Error("this worker is broken");
  if (data === "count") postMessage(messages);
  messages += 1;
});
