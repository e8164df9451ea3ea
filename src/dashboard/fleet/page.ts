/**
 * The page of a fleet: how its jobs stand, what those that run have moved, and why others failed. It asks again every two seconds, and
 * changes nothing.
 */
import type { FleetSight } from "../../fleet/board.ts";
import type { JobRow } from "../../fleet/queue.ts";
import { byId, bytesText, h, say } from "../dom.ts";

/** Between two questions, ms. */
const PERIOD_MS = 2000;

const COLUMNS = ["Job", "Worker", "Attempts", "Moved", "Shards", "Last error"];

let last: FleetSight | undefined;

/** Bytes a second since what was shown before; undefined: nothing can be told. */
function rateOf({ atMs, movedBytes }: FleetSight): number | undefined {
  const spanMs = atMs - (last?.atMs ?? atMs);
  const moved = movedBytes - (last?.movedBytes ?? 0);
  return spanMs > 0 && moved >= 0 ? (moved * 1000) / spanMs : undefined;
}

function rowOf({ id, worker, attempts, bytes, shards, lastError }: JobRow): HTMLTableRowElement {
  const cells = [
    id,
    worker,
    String(attempts),
    bytesText(bytes),
    shards ? `${shards.done} of ${shards.total}` : "",
    lastError,
  ];
  return h("tr", {}, ...cells.map((text) => h("td", {}, text)));
}

function tableOf(rows: readonly JobRow[], total: number): Node[] {
  if (total === 0) return [h("p", { class: "quiet" }, "None.")];
  const head = h("tr", {}, ...COLUMNS.map((name) => h("th", { scope: "col" }, name)));
  const table = h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows.map(rowOf)));
  const more = total - rows.length;
  return more > 0 ? [table, h("p", { class: "quiet" }, `and ${more} more`)] : [table];
}

function show(sight: FleetSight): void {
  const { counts, movedBytes } = sight;
  const { queued, running, done, failed } = counts;
  const all = queued + running + done + failed;
  const rate = rateOf(sight);
  byId<HTMLProgressElement>("bar").value = all === 0 ? 0 : (done + failed) / all;
  const speed = rate === undefined ? "" : `, ${bytesText(rate)}/s`;
  say(
    byId("counts"),
    `${queued} waiting, ${running} running, ${done} done, ${failed} failed; ${bytesText(movedBytes)} moved${speed}`,
  );
  for (const state of ["running", "failed", "queued"] as const)
    byId(state).replaceChildren(...tableOf(sight[state], counts[state]));
  byId("main").setAttribute("aria-busy", "false");
  if (sight.atMs !== last?.atMs) last = sight;
}

function tell(link: string, trouble: string): void {
  say(byId("link"), link);
  say(byId("trouble"), trouble);
  byId("trouble").hidden = trouble === "";
}

async function ask(): Promise<void> {
  try {
    const response = await fetch(`fleet.json${location.search}`);
    if (!response.ok) return tell("Away", (await response.text()).trim());
    show((await response.json()) as FleetSight);
    tell("Connected", "");
  } catch {
    tell("Away", "The process that served this page does not answer; it has ended, perhaps.");
  }
}

for (;;) {
  await ask();
  await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
}
