/** The disk map: bytes by part and interval, in a table of bounded size; and its picture, which is a whole bitmap. */
import { expect, it } from "vitest";
import { DiskMap } from "../../../src/workload/stats/disk-map.ts";
import { mapPicture } from "../../../src/workload/report/map-picture.ts";
import { type WorkloadJson, report, runWorkload } from "../../../src/workload.ts";

const sum = (rows: readonly (readonly number[])[]): number => rows.flat().reduce((all, one) => all + one, 0);

it("bytes are counted in the parts that they touch, by when they ended", () => {
  const map = new DiskMap(64 * 1024);
  map.record({ operation: "write", offset: 512, bytes: 1024, atNs: 0 });
  map.record({ operation: "read", offset: 63 * 1024, bytes: 1024, atNs: 2.5e6 });
  map.record({ operation: "flush", offset: 0, bytes: 0, atNs: 2.5e6 });
  const { partBytes, intervalNs, read, changed } = map.toJSON();
  expect({ partBytes, intervalNs, intervals: read.length }).toEqual({
    partBytes: 1024,
    intervalNs: 1e6,
    intervals: 3,
  });
  expect(changed[0]!.slice(0, 3)).toEqual([512, 512, 0]);
  expect(read[2]![63]).toBe(1024);
  expect([sum(read), sum(changed)]).toEqual([1024, 1024]);
});

it("stays bounded, and loses nothing, however long the run and however short the disk", () => {
  for (const length of [100, 1e6, 2 ** 40]) {
    const map = new DiskMap(length);
    for (let i = 0; i < 500; i++) map.record({ operation: "zero", offset: 0, bytes: 100, atNs: i * 1e7 });
    const { changed } = map.toJSON();
    expect(changed.length).toBeLessThanOrEqual(32);
    expect(sum(changed)).toBe(50_000);
  }
});

it("is a bitmap in the page, and nothing where nothing happened", () => {
  const options = { title: "bytes", colour: [255, 0, 0] as const };
  expect(mapPicture([[0, 0]], options)).toBe("");
  const html = mapPicture(
    [
      [0, 5],
      [1, 9],
      [0, 0],
    ],
    options,
  );
  const text = atob(/base64,([^"]+)"/.exec(html)![1]!);
  expect(text.slice(0, 2)).toBe("BM");
  const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
  const word = (at: number): number => new DataView(bytes.buffer).getInt32(at, true);
  expect([word(2), word(18), word(22)]).toEqual([bytes.length, 3, 2]);
  const pixels = bytes.subarray(word(10));
  expect([pixels[0], pixels[2], pixels[4 + 1]]).toEqual([0, 0, 255]);
});

it("stands in results, and both maps of two runs in their page, which is below 300 KiB", async () => {
  const workload: WorkloadJson = {
    size: "64M",
    workers: [{ mix: { read: 1, write: 1 }, locality: "random", requests: 3000, depth: 8 }],
  };
  const result = await runWorkload(workload);
  const { diskMap, totals } = result;
  expect(sum(diskMap!.read)).toBe(totals.read!.bytes);
  expect(sum(diskMap!.changed)).toBe(totals.write!.bytes);
  const page = report(result, "html");
  expect(page.match(/<img class="map"/g)).toHaveLength(2);
  expect(page.length).toBeLessThan(300 * 1024);
  expect(page).not.toMatch(/(?:src|href)="(?!data:)/);
});

it("has uPlot in its page where its script is given, in the place of SVG", async () => {
  const result = await runWorkload({ workers: [{ mix: "read", requests: 50 }] });
  expect(report(result, "html")).toContain("<svg");
  const page = report(result, "html", { plotScript: "var uPlot;/* its text */" });
  expect(page).toContain("<script>var uPlot;/* its text */</script>");
  expect(page).not.toContain("<svg");
  expect(page.match(/<figure class="plot"/g)).toHaveLength(4);
});
