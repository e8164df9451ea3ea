/**
 * The script of a worker for openGuestDisk(): an engine with what a guest's disk over HTTP needs, and no QMP, so that a page
 * loads little. `blockwright/worker` does the same and more.
 *
 * Invariant: each page that connects has an engine of its own, which ends with it.
 */
import { makeSimdEngine } from "./api/engine.ts";
import { serveCalls } from "./api/worker/service.ts";
import { servePages } from "./browser-serve.ts";
import { copyOnRead } from "./drivers/filter/copy-on-read.ts";
import { streamableQcow2 } from "./drivers/format/qcow2/streamable.ts";
import { raw } from "./drivers/format/raw.ts";
import { http, https } from "./drivers/protocol/http/index.ts";
import { indexedDb } from "./drivers/protocol/indexeddb.ts";
import { opfs } from "./drivers/protocol/opfs/index.ts";
import { guestHost } from "./platform/browser/host.ts";

const drivers = [copyOnRead, streamableQcow2, raw, http, https, opfs, indexedDb];

servePages((port, onFault, asked) => {
  const engine = makeSimdEngine({ host: guestHost(), drivers }, { arenaBytes: 16 * 2 ** 20, ...asked });
  return serveCalls(port, engine, { onFault });
});
