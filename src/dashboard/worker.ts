/**
 * The page's worker: the engine with the browser's drivers and the filter that plays a full store.
 */
import { createEngine, serveWorker } from "../worker.ts";
import { fullStore, room } from "./full-store.ts";

/** What the page tells its worker beside the engine's own messages. */
export interface RoomMessage {
  room: "full" | "free";
}

serveWorker(createEngine({ drivers: [fullStore] }), { keepEngine: false });
addEventListener("message", ({ data }: MessageEvent<Partial<RoomMessage>>) => {
  if (data.room) room.isFull = data.room === "full";
});
