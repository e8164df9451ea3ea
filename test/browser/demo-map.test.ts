// The demo's map on a real canvas: 100 000 clusters, painted as they change. The time of a frame is printed; what is asserted
// is that the right pixels are there, and that a frame paints no more than what has changed.
import { expect, it } from "vitest";
import { MapModel, states } from "../../src/dashboard/map-model.ts";
import { MapView } from "../../src/dashboard/map-view.ts";
import { randomness } from "../support/random.ts";

const CLUSTER = 65_536;
const FRAMES = 120;
/** Clusters that change in a frame: 60 times a second that is 1.1 GiB. */
const CHANGES = 300;

function frame(): Promise<number> {
  return new Promise((resolve) => requestAnimationFrame(resolve));
}

function makeMap(clusters: number): { canvas: HTMLCanvasElement; model: MapModel; view: MapView } {
  const parent = document.createElement("div");
  parent.style.width = "560px";
  const canvas = document.createElement("canvas");
  parent.append(canvas);
  document.body.append(parent);
  const model = new MapModel(clusters * CLUSTER, CLUSTER);
  return { canvas, model, view: new MapView(canvas, model) };
}

/** The colours on the canvas, and how many pixels have each. */
function colours(canvas: HTMLCanvasElement): Map<string, number> {
  const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
  const found = new Map<string, number>();
  for (let at = 0; at < data.length; at += 4) {
    const colour = `${data[at]},${data[at + 1]},${data[at + 2]}`;
    found.set(colour, (found.get(colour) ?? 0) + 1);
  }
  return found;
}

it("paints 100 000 clusters at the pace of the screen", async () => {
  const { canvas, model, view } = makeMap(100_000);
  await frame();
  await frame();
  const next = randomness(1);
  const open: ((how: "read" | "written") => void)[] = [];
  const times: number[] = [];
  view.costs.length = 0;
  for (let count = 0; count < FRAMES; count++) {
    for (let change = 0; change < CHANGES / 3; change++) {
      model.store(next(100_000) * CLUSTER, CLUSTER, next(8) === 0 ? "zero" : "local");
      open.push(model.begin(next(100_000) * CLUSTER, 1));
      if (open.length > 40) open.shift()!(next(4) === 0 ? "written" : "read");
    }
    view.wake();
    times.push(await frame());
  }
  for (const end of open) end("read");
  view.wake();
  await frame();
  await frame();
  const costs = [...view.costs].toSorted((a, b) => a - b);
  const [median, worst] = [costs[costs.length >> 1]!, costs.at(-1)!];
  const rate = ((FRAMES - 1) * 1000) / (times.at(-1)! - times[0]!);
  console.log(
    `map of 100 000 clusters: a paint takes ${median.toFixed(2)} ms (worst ${worst.toFixed(2)}), ${rate.toFixed(0)} frames/s`,
  );
  expect(costs.length).toBeGreaterThan(FRAMES / 2);
  const found = colours(canvas);
  const side = Math.sqrt([...found.values()].reduce((sum, count) => sum + count, 0) / 100_000);
  expect(found.get("38,196,170")! / found.get("35,46,74")!).toBeCloseTo(
    model.counts[2]! / model.counts[0]!,
    1,
  );
  expect(side).toBeGreaterThan(0.9);
});

it("paints one cell for one change, where cells are large", async () => {
  const { canvas, model, view } = makeMap(400);
  await frame();
  await frame();
  const before = colours(canvas);
  expect(before.get("38,196,170")).toBeUndefined();
  model.store(17 * CLUSTER, CLUSTER, "local");
  view.wake();
  await expect.poll(() => colours(canvas).get("38,196,170") ?? 0).toBeGreaterThan(16);
  const cell = colours(canvas).get("38,196,170")!;
  model.store(0, 40 * CLUSTER, "local");
  view.wake();
  await expect.poll(() => colours(canvas).get("38,196,170")).toBe(40 * cell);
  expect(states).toHaveLength(6);
});
