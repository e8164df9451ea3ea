// WebKit, as Debian's WebKitGTK has it, which keeps no synchronous handles in OPFS: a guest of v86 whose overlay over HTTP lies in
// IndexedDB, through a dead server, a reload and kills.
import { test } from "vitest";
import { killedInIndexedDb, storedInIndexedDb } from "./stories/fallback.ts";

const KILLS = 3;

test("boot over HTTP, fill, lose the network, stop, go on, finish; reload offline", () =>
  storedInIndexedDb("webkit"));
test(`${KILLS} kills under a fill and the guest's writes`, () => killedInIndexedDb("webkit", KILLS));
